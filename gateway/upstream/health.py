"""What is known of each backend: whether it may be asked now, how busy and how fast it is.

Pure bookkeeping; the clock is given. It must never block or speak to a backend itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Consecutive failures after which a backend is left alone for a while.
FAILURES_TO_OPEN = 5
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0
#: Weight of the newest observation in the moving averages.
SMOOTHING = 0.2


@dataclass(slots=True)
class MovingMean:
    """Exponentially weighted mean; None until the first observation."""

    value: float | None = None

    def add(self, observation: float) -> None:
        if self.value is None:
            self.value = observation
        else:
            self.value += SMOOTHING * (observation - self.value)


@dataclass(slots=True)
class BackendHealth:
    """A circuit breaker with one probe at a time, and live signals of one model at one backend."""

    inflight: int = 0
    #: Time to the first token, and per token after it, as this gateway saw them.
    ttft_ms: MovingMean = field(default_factory=MovingMean)
    token_ms: MovingMean = field(default_factory=MovingMean)
    #: None until a probe or a request has told.
    is_up: bool | None = None
    _failures: int = 0
    _pause_s: float = FIRST_PAUSE_S
    _closed_until_s: float = 0.0

    def is_usable(self, now_s: float) -> bool:
        """Whether a request may be sent: not paused, and not known to be down."""
        return self.is_up is not False and now_s >= self._closed_until_s

    def begin(self, now_s: float) -> None:
        """Count a request that is sent now; after a pause, the others wait for what it tells."""
        self.inflight += 1
        if self.is_paused:
            self._pause(now_s)

    @property
    def is_paused(self) -> bool:
        return self._failures >= FAILURES_TO_OPEN

    def succeed(self) -> None:
        self.is_up = True
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._closed_until_s = 0.0

    def fail(self, now_s: float) -> None:
        """Count a failure of the backend itself; never call it for a client's mistake."""
        self._failures += 1
        if self._failures == FAILURES_TO_OPEN:  # those of requests under way add nothing
            self._pause(now_s)

    def _pause(self, now_s: float) -> None:
        self._closed_until_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def probe(self, *, answered: bool) -> None:
        """Take the result of an active probe."""
        if answered and self.is_up is not True:
            self.succeed()
        self.is_up = answered
