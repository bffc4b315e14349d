"""How long an exchange with a backend may take to begin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to connect, and then until the answer's head has arrived."""

    connect_s: float
    first_byte_s: float
