"""One backend as seen from one model: its name there, its connections and its health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from gateway.upstream.health import BackendHealth
from gateway.upstream.transport import Transport


@dataclass(frozen=True, slots=True)
class BackendHandle:
    """``extra_fields`` are set in every request body that goes to it."""

    name: str
    served_model: str
    extra_fields: Mapping[str, msgspec.Raw]
    transport: Transport
    health: BackendHealth = field(default_factory=BackendHealth)
