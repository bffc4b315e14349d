"""How many second attempts a gateway may make: a share of its traffic, so that they cannot multiply.

The token bucket of Twitter's Finagle (RetryBudget): every request deposits a fraction of a retry, and
a few a second come for free, so that little traffic is not left without.
"""

from __future__ import annotations

from gateway.clock import Clock

RETRY_SHARE = 0.2
FREE_RETRIES_PER_S = 3.0
#: Deposits are kept for about this long.
HORIZON_S = 10.0


class RetryBudget:
    """``share`` of the requests may be repeated, and ``free_per_s`` on top."""

    def __init__(
        self,
        clock: Clock,
        share: float = RETRY_SHARE,
        free_per_s: float = FREE_RETRIES_PER_S,
        horizon_s: float = HORIZON_S,
    ) -> None:
        self._clock = clock
        self._share, self._free_per_s, self._horizon_s = share, free_per_s, horizon_s
        self._floor = free_per_s * horizon_s
        self._balance = self._floor
        self._at_s = clock.monotonic_s()

    def deposit(self) -> None:
        """Count a request."""
        self._balance += self._share

    def withdraw(self) -> bool:
        """Take one retry; False when the budget is spent."""
        now_s = self._clock.monotonic_s()
        elapsed_s, self._at_s = now_s - self._at_s, now_s
        # What is not used within the horizon fades, so that a quiet day does not pay for a storm.
        if self._balance > self._floor:
            surplus = (self._balance - self._floor) * 0.5 ** (elapsed_s / self._horizon_s)
            self._balance = self._floor + surplus
        else:
            self._balance = min(self._floor, self._balance + self._free_per_s * elapsed_s)
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
