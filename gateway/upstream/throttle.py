"""Sparing a backend that says it is overloaded: fewer requests are sent the more it turns away.

The client-side throttling of Beyer et al., Site Reliability Engineering (2016), chapter 21.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

#: Requests sent for each one accepted, before any is spared: the backend sees that it is still wanted.
K = 2.0
WINDOW_S = 120.0
#: Fewer requests than this prove nothing.
REQUESTS_TO_JUDGE = 20


@dataclass(slots=True)
class Throttle:
    """Requests accepted and turned away in the last WINDOW_S, counted in two halves of it.

    A request counts when its backend has said which: generation takes longer than the window, and
    a client that leaves says nothing of the backend. One that never answers is the breaker's matter.
    """

    _began_s: float = 0.0
    _now: list[int] = field(default_factory=lambda: [0, 0])
    _before: list[int] = field(default_factory=lambda: [0, 0])

    def note(self, now_s: float, *, accepted: bool) -> None:
        """Count a request that was accepted, or turned away for want of capacity."""
        if now_s - self._began_s >= WINDOW_S / 2:
            self._turn(now_s)
        self._now[0] += 1
        self._now[1] += accepted

    @property
    def is_calm(self) -> bool:
        """Whether nothing was turned away, so that nothing is spared."""
        sent, accepted = self._now
        sent_before, accepted_before = self._before
        return sent == accepted and sent_before == accepted_before

    def share_spared(self, now_s: float) -> float:
        """The share of requests not to send now."""
        self._turn(now_s)
        sent = self._now[0] + self._before[0]
        accepted = self._now[1] + self._before[1]
        if sent < REQUESTS_TO_JUDGE:
            return 0.0
        return max(0.0, (sent - K * accepted) / (sent + 1))

    def spares(self, now_s: float) -> bool:
        """Draw whether to spare the backend this request."""
        share = self.share_spared(now_s)
        return share > 0 and random.random() < share  # noqa: S311 - no secret depends on it

    def _turn(self, now_s: float) -> None:
        age_s = now_s - self._began_s
        if age_s >= WINDOW_S / 2:
            self._before = self._now if age_s < WINDOW_S else [0, 0]
            self._now = [0, 0]
            self._began_s = now_s
