"""What is known of each backend: whether it may be asked now, how busy and how fast it is.

Pure bookkeeping; the clock is given. It must never block or speak to a backend itself.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from gateway.upstream.signals import Signals
from gateway.upstream.throttle import Throttle

#: Consecutive failures after which a backend is left alone for a while.
FAILURES_TO_OPEN = 5
#: Share of failures among at least so many answers of a window that does the same.
FAILURE_SHARE_TO_OPEN = 0.5
ANSWERS_TO_JUDGE = 20
WINDOW_S = 30.0
FIRST_PAUSE_S = 5.0
#: A word on load that is older than this says nothing.
FRESH_S = 10.0
LONGEST_PAUSE_S = 60.0
#: Pauses last longer by up to this share, so that gateways do not return to a backend all at once.
JITTER = 0.2
#: Times to a first token that are kept, and how many say what is unusual.
TTFTS_KEPT = 128
TTFTS_TO_JUDGE = 20
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
class FailureShare:
    """Successes and failures of the last WINDOW_S, counted in two halves of it."""

    _began_s: float = 0.0
    _now: list[int] = field(default_factory=lambda: [0, 0])
    _before: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, now_s: float, *, failed: bool) -> None:
        age_s = now_s - self._began_s
        if age_s >= WINDOW_S / 2:
            self._before = self._now if age_s < WINDOW_S else [0, 0]
            self._now = [0, 0]
            self._began_s = now_s
        self._now[failed] += 1

    def is_bad(self) -> bool:
        failures = self._now[True] + self._before[True]
        answers = failures + self._now[False] + self._before[False]
        return answers >= ANSWERS_TO_JUDGE and failures >= FAILURE_SHARE_TO_OPEN * answers

    def clear(self) -> None:
        self._now, self._before = [0, 0], [0, 0]


@dataclass(slots=True)
class BackendHealth:
    """A circuit breaker with one trial at a time, and live signals of one model at one backend."""

    inflight: int = 0
    #: Time to the first token, and per token after it, as this gateway saw them.
    ttft_ms: MovingMean = field(default_factory=MovingMean)
    token_ms: MovingMean = field(default_factory=MovingMean)
    #: The latest times to a first token, for who wants to know what is unusual.
    ttfts_ms: deque[float] = field(default_factory=lambda: deque(maxlen=TTFTS_KEPT))
    throttle: Throttle = field(default_factory=Throttle)
    #: Tokens of its answers that are in our ledger, and what share that is of those it counted itself.
    tokens_booked: int = 0
    usage_drift: float | None = None
    #: What the server said last of its load, and when; None as long as it said nothing.
    signals: Signals | None = None
    signals_at_s: float = 0.0
    #: None until a probe or a request has told.
    is_up: bool | None = None
    is_paused: bool = False
    #: An operator wants nothing new to be sent there.
    is_drained: bool = False
    _failures: int = 0
    _share: FailureShare = field(default_factory=FailureShare)
    _pause_s: float = FIRST_PAUSE_S
    _closed_until_s: float = 0.0
    _inflight_then: int = 0
    #: Whether its name is in the server's list; None until it was there once.
    _is_listed: bool | None = None

    def note_listed(self, *, is_listed: bool) -> None:
        """Take what the server's list of models says; an adapter that was unloaded leaves it.

        Many servers answer to names that they never list, so only one that was there can go.
        """
        if is_listed or self._is_listed is not None:
            self._is_listed = is_listed

    def take_signals(self, signals: Signals, now_s: float) -> None:
        """Take what the server says of its load."""
        self.signals, self.signals_at_s, self._inflight_then = signals, now_s, self.inflight

    def fresh_signals(self, now_s: float) -> Signals | None:
        """What the server said lately; an old word is none."""
        return self.signals if now_s - self.signals_at_s <= FRESH_S else None

    def pressure(self, now_s: float) -> float:
        """Requests that it is busy with: by its own word, which counts those of others, and ours."""
        told = self.fresh_signals(now_s)
        if told is None or told.running is None:
            return self.inflight
        theirs = told.running + (told.waiting or 0.0)
        return max(self.inflight, theirs + self.inflight - self._inflight_then)

    def is_usable(self, now_s: float) -> bool:
        """Whether a request may be sent: not paused, not known to be down, its model not gone."""
        return (
            self.is_up is not False
            and now_s >= self._closed_until_s
            and self._is_listed is not False
            and not self.is_drained
        )

    def is_sound(self, now_s: float) -> bool:
        """Whether nothing at all is wrong with it: usable, not on trial, turning nobody away."""
        return not self.is_paused and self.throttle.is_calm and self.is_usable(now_s)

    def note_first_token(self, ttft_ms: float) -> None:
        self.ttft_ms.add(ttft_ms)
        self.ttfts_ms.append(ttft_ms)

    def slow_ms(self, quantile: float) -> float | None:
        """How long a first token takes in all but ``1 - quantile`` of the cases; None if unknown."""
        if len(self.ttfts_ms) < TTFTS_TO_JUDGE:
            return None
        return sorted(self.ttfts_ms)[int(quantile * (len(self.ttfts_ms) - 1))]

    def begin(self, now_s: float) -> None:
        """Count a request that is sent now; after a pause, the others wait for what it tells."""
        self.inflight += 1
        if self.is_paused:
            self._pause(now_s)

    def open(self) -> None:
        """Take note that a stream began: the backend works, its answer may still break off."""
        self.is_up = True
        if self.is_paused:
            self._recover()

    def succeed(self, now_s: float) -> None:
        """Count an answer that came to its end."""
        self.is_up = True
        self._failures = 0
        self._share.add(now_s, failed=False)
        if self.is_paused:
            self._recover()

    def fail(self, now_s: float) -> None:
        """Count a failure of the backend itself; never call it for a client's mistake."""
        self._failures += 1
        self._share.add(now_s, failed=True)
        if not self.is_paused and (self._failures >= FAILURES_TO_OPEN or self._share.is_bad()):
            self._pause(now_s)  # those of requests under way add nothing to it

    def probe(self, *, answered: bool) -> None:
        """Take the result of an active probe."""
        if answered and self.is_up is not True:
            self._recover()
        self.is_up = answered

    def _pause(self, now_s: float) -> None:
        self.is_paused = True
        jitter = 1 + JITTER * random.random()  # noqa: S311 - no secret depends on it
        self._closed_until_s = now_s + self._pause_s * jitter
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _recover(self) -> None:
        self.is_paused = False
        self._failures = 0
        self._share.clear()
        self._pause_s = FIRST_PAUSE_S
        self._closed_until_s = 0.0
