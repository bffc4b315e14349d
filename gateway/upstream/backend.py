"""One backend as seen from one model: its name there, its connections and its health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from gateway.upstream.health import BackendHealth
from gateway.upstream.transport import Transport

#: Endpoints that can be put in chat's words.
OVER_CHAT = frozenset({"responses", "messages"})


@dataclass(frozen=True, slots=True)
class BackendHandle:
    """``extra_fields`` are set in every request body that goes to it.

    ``endpoints`` are those it speaks itself, as the configuration names them.
    """

    name: str
    served_model: str
    extra_fields: Mapping[str, msgspec.Raw]
    transport: Transport
    endpoints: frozenset[str] = frozenset({"chat", "completions"})
    #: Whether a stream that broke off elsewhere may be continued here, and one from here elsewhere.
    resumes: bool = False
    health: BackendHealth = field(default_factory=BackendHealth)

    def has_adapter(self, now_s: float) -> bool:
        """Whether the server said lately that this model is an adapter at work."""
        told = self.health.fresh_signals(now_s)
        adapters = None if told is None else told.adapters
        return adapters is not None and self.served_model in adapters.running

    def serves(self, endpoint: str) -> bool:
        """Whether it can be asked for this, in its own words or in chat's."""
        return endpoint in self.endpoints or (endpoint in OVER_CHAT and "chat" in self.endpoints)
