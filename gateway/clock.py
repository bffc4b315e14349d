"""Time as the gateway uses it: monotonic for durations, wall time for records alone."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic_s(self) -> float: ...

    def wall_s(self) -> float:
        """Seconds since the epoch; for records, never for differences."""


class SystemClock:
    """The machine's clocks; called as they are, for they are asked many times a request."""

    __slots__ = ()

    monotonic_s = staticmethod(time.perf_counter)
    wall_s = staticmethod(time.time)
