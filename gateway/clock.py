"""Time as the gateway uses it: monotonic for durations, wall time for records alone."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

#: A timer that comes later than this waited for a process that did not run: stopped, swapped, starved.
STALL_S = 0.5
#: What came meanwhile lies unread in the sockets; libuv looks at its timers first.
CATCH_UP_S = 0.1


def has_stalled(loop: asyncio.AbstractEventLoop, due_s: float) -> bool:
    """Whether a timer due then comes so late that others deserve to be heard before it judges them."""
    return loop.time() - due_s > STALL_S


class Clock(Protocol):
    def monotonic_s(self) -> float: ...

    def wall_s(self) -> float:
        """Seconds since the epoch; for records, never for differences."""


class SystemClock:
    """The machine's clocks; called as they are, for they are asked many times a request."""

    __slots__ = ()

    monotonic_s = staticmethod(time.perf_counter)
    wall_s = staticmethod(time.time)
