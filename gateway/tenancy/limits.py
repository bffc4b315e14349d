"""How much at once and how much in all: of the gateway, and of one key.

What is taken before a request is given back, or put right, exactly once after it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import cast

import msgspec

from gateway.clock import Clock
from gateway.errors import BudgetSpent, InvalidRequest, Overloaded, RateLimited
from gateway.settings import Server
from gateway.telemetry.metrics import Metrics
from gateway.tenancy.keys import KeyPolicy, Priority

NANOS_PER_USD = 1_000_000_000
_MINUTE_S = 60.0
PRIORITY_HEADER = "x-priority"
#: From the first to be turned away to the last.
PRIORITIES = ("low", "normal", "high")


class Admission:
    """How many requests may be in flight. A permit is given back exactly once."""

    def __init__(self, server: Server, metrics: Metrics) -> None:
        self._metrics = metrics
        self.inflight = 0
        self.set_limits(server)

    def set_limits(self, server: Server) -> None:
        """Take the limits of a configuration; who is in stays in."""
        most = server.max_inflight
        low, normal = server.low_share, server.normal_share
        self._most = {"low": floor(low * most), "normal": floor(normal * most), "high": most}

    def enter(self, priority: Priority = "normal") -> None:
        """Take one place. Raises Overloaded when none is free for this priority."""
        most = self._most[priority]
        if self.inflight >= most:
            raise Overloaded(f"{most} requests are in flight, the limit for {priority} priority")
        self.inflight += 1
        self._metrics.inflight.set(self.inflight)

    def leave(self) -> None:
        self.inflight -= 1
        self._metrics.inflight.set(self.inflight)


def priority_of(headers: Mapping[str, str], policy: KeyPolicy | None) -> Priority:
    """Priority of a request: that of its key, or a lower one that it asks for itself.

    Raises InvalidRequest for what is no priority.
    """
    allowed: Priority = "normal" if policy is None else policy.priority
    asked = headers.get(PRIORITY_HEADER)
    if asked is None:
        return allowed
    if asked not in PRIORITIES:
        text = f"the header {PRIORITY_HEADER} must be one of {', '.join(PRIORITIES)}"
        raise InvalidRequest(text, param=PRIORITY_HEADER)
    return min(cast("Priority", asked), allowed, key=PRIORITIES.index)


class Bucket:
    """A rate with a burst of a minute's worth: a token bucket that may be overdrawn afterwards."""

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        self._level = min(
            self.per_minute, self._level + (now_s - self._at_s) * self.per_minute / _MINUTE_S
        )
        self._at_s = now_s
        return self._level

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until ``amount`` can be taken; 0 when it can be now.

        More than a whole minute's worth never could be, so a full bucket lets it through.
        """
        missing = min(amount, self.per_minute) - self.level(now_s)
        return max(0.0, missing) * _MINUTE_S / self.per_minute

    def set_level(self, level: float, now_s: float) -> None:
        """Go on from a level that somebody else has counted."""
        self._level, self._at_s = min(self.per_minute, level), now_s

    def take(self, amount: float) -> None:
        """Take, or with a negative amount give back."""
        self._level = min(self.per_minute, self._level - amount)

    def headers(self, kind: str, now_s: float) -> dict[str, str]:
        """``x-ratelimit-*`` as OpenAI spells them."""
        level = self.level(now_s)
        full_in_s = (self.per_minute - level) * _MINUTE_S / self.per_minute
        return {
            f"x-ratelimit-limit-{kind}": str(self.per_minute),
            f"x-ratelimit-remaining-{kind}": str(max(0, int(level))),
            f"x-ratelimit-reset-{kind}": f"{full_in_s:.3f}s",
        }


@dataclass(frozen=True, slots=True)
class Hold:
    """What a request has reserved until it is settled; ``mark`` names it in the shared store."""

    tokens: int
    nanos: int
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """A day in UTC, as budgets count."""

    day: str
    month: str

    @classmethod
    def of(cls, wall_s: float) -> Day:
        day = time.strftime("%Y-%m-%d", time.gmtime(wall_s))
        return cls(day, day[:7])


class Standing(msgspec.Struct, frozen=True):
    """Where a key stands, as whoever counts for all processes tells it."""

    requests: float
    tokens: float
    inflight: int
    held_nanos: int
    spent_day_nanos: int
    spent_month_nanos: int


class KeyUse:
    """What one key uses: rates, requests in flight, money held and spent. Knows one process."""

    def __init__(self, policy: KeyPolicy, clock: Clock) -> None:
        self._clock = clock
        self._inflight = 0
        self._held_nanos = 0
        self._spent_day = self._spent_month = 0
        self._today = Day.of(clock.wall_s())
        self._day_number = int(clock.wall_s() // 86_400)
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.set_policy(policy)

    def set_policy(self, policy: KeyPolicy) -> None:
        """Take a policy; a limit that stays the same keeps its level."""
        self.policy = policy
        now_s = self._clock.monotonic_s()
        self._requests = _bucket(self._requests, policy.requests_per_minute, now_s)
        self._tokens = _bucket(self._tokens, policy.tokens_per_minute, now_s)

    def set_spent(self, day_nanos: int, month_nanos: int) -> None:
        """Begin with what was spent before this process started."""
        self._spent_day, self._spent_month = day_nanos, month_nanos

    def adopt(self, told: Standing) -> None:
        """Go on from what all processes have used together."""
        self._turn_day()
        now_s = self._clock.monotonic_s()
        if self._requests is not None:
            self._requests.set_level(told.requests, now_s)
        if self._tokens is not None:
            self._tokens.set_level(told.tokens, now_s)
        self._inflight, self._held_nanos = told.inflight, told.held_nanos
        self._spent_day, self._spent_month = told.spent_day_nanos, told.spent_month_nanos

    def today(self) -> Day:
        self._turn_day()
        return self._today

    def check(self) -> None:
        """Raise RateLimited or BudgetSpent where no request at all would be let in."""
        self._check_budgets(0)
        self._check_rates(0)

    def hold(self, tokens: int, nanos: int, *, keeps_budgets: bool = True) -> Hold:
        """Let a request in and hold what it may use. Raises RateLimited or BudgetSpent."""
        if keeps_budgets:
            self._check_budgets(nanos)
        self._check_rates(tokens)
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)
        self._inflight += 1
        self._held_nanos += nanos
        return Hold(tokens, nanos)

    def release(self, hold: Hold) -> None:
        """Undo a hold as if it had never been."""
        if self._requests is not None:
            self._requests.take(-1)
        if self._tokens is not None:
            self._tokens.take(-hold.tokens)
        self._inflight = max(0, self._inflight - 1)
        self._held_nanos = max(0, self._held_nanos - hold.nanos)

    def settle(self, hold: Hold, tokens: int, nanos: int) -> Day:
        """Put what was held right by what was used; returns the day it is booked on."""
        self._inflight = max(0, self._inflight - 1)
        if self._tokens is not None:
            self._tokens.take(tokens - hold.tokens)
        self._held_nanos = max(0, self._held_nanos - hold.nanos)
        self._turn_day()
        self._spent_day += nanos
        self._spent_month += nanos
        return self._today

    def headers(self) -> dict[str, str]:
        """The limits and what is left of them, for an answer."""
        now_s = self._clock.monotonic_s()
        told = {} if self._requests is None else self._requests.headers("requests", now_s)
        return told if self._tokens is None else {**told, **self._tokens.headers("tokens", now_s)}

    def budgets_left(self) -> list[tuple[str, float, int]]:
        """Each budget: its period, its whole in USD, and the nano-dollars neither spent nor held."""
        self._turn_day()
        return [
            (period, budget, round(budget * NANOS_PER_USD) - spent - self._held_nanos)
            for period, budget, spent in (
                ("day", self.policy.budget_usd_per_day, self._spent_day),
                ("month", self.policy.budget_usd_per_month, self._spent_month),
            )
            if budget is not None
        ]

    def _check_budgets(self, nanos: int) -> None:
        for period, budget, left in self.budgets_left():
            if nanos > left or left <= 0:
                raise over_budget(period, budget, left, nanos)

    def _check_rates(self, tokens: int) -> None:
        policy = self.policy
        if policy.concurrency is not None and self._inflight >= policy.concurrency:
            raise too_many_at_once(policy.concurrency)
        now_s = self._clock.monotonic_s()
        for bucket, amount, kind in (
            (self._requests, 1, "requests"),
            (self._tokens, tokens, "tokens"),
        ):
            wait_s = 0.0 if bucket is None else bucket.wait_s(amount, now_s)
            if bucket is not None and wait_s > 0:
                raise over_rate(bucket.per_minute, kind, wait_s)

    def _turn_day(self) -> None:
        wall_s = self._clock.wall_s()
        number = int(wall_s // 86_400)
        if number <= self._day_number:  # a clock set back gives no budget anew
            return
        self._day_number = number
        before, self._today = self._today, Day.of(wall_s)
        self._spent_day = 0
        if before.month != self._today.month:
            self._spent_month = 0


def too_many_at_once(concurrency: int) -> RateLimited:
    return RateLimited(f"this key may have {concurrency} requests in flight", retry_after_s=1)


def over_rate(per_minute: int, kind: str, wait_s: float) -> RateLimited:
    text = f"this key may use {per_minute} {kind} a minute"
    return RateLimited(text, retry_after_s=max(1, ceil(wait_s)))


def over_budget(period: str, budget_usd: float, left_nanos: int, nanos: int) -> BudgetSpent:
    return BudgetSpent(
        f"this request may cost {nanos / NANOS_PER_USD:.6f} USD, and"
        f" {max(left_nanos, 0) / NANOS_PER_USD:.6f} of {budget_usd:g} USD a {period} are left"
    )


def _bucket(known: Bucket | None, per_minute: int | None, now_s: float) -> Bucket | None:
    if per_minute is None:
        return None
    return (
        known if known is not None and known.per_minute == per_minute else Bucket(per_minute, now_s)
    )
