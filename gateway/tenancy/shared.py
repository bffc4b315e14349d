"""Counting what keys use for every process together, and alone while the store is away.

A key without limits is let in without asking; what it spends is told all the same. What one process
holds is leased, so that nothing stays held when it is killed.
"""

from __future__ import annotations

import asyncio
import secrets
from math import ceil
from typing import Any

from gateway.clock import Clock
from gateway.errors import LimitsUnknown, RateLimited, StoreAway
from gateway.settings import State
from gateway.tenancy.keys import Key, KeyPolicy
from gateway.tenancy.limits import (
    NANOS_PER_USD,
    Day,
    Hold,
    KeyUse,
    Standing,
    over_budget,
    over_rate,
    too_many_at_once,
)
from gateway.tenancy.store import PREFIX, SharedStore

#: How long what a process holds outlives it, and how often a living one renews it.
LEASE_S = 60.0
RENEW_S = 15.0


class SharedMeter:
    """One key's use, counted in Redis.

    ``use`` repeats what Redis said last; while it is away the process goes on from there.
    """

    def __init__(self, key: Key, clock: Clock, store: SharedStore, state: State) -> None:
        self.use = KeyUse(key.policy, clock)
        self.headers, self.budgets_left = self.use.headers, self.use.budgets_left
        self._clock = clock
        self._store = store
        self._state = state
        self._grace = self._grace_left = round(state.grace_usd * NANOS_PER_USD)
        #: A rate that is used up, and when it will not be: nobody asks Redis before.
        self._refused: tuple[RateLimited, float] | None = None
        #: What is held, by mark; the process's own share of what Redis knows.
        self.held: set[str] = set()
        names = ("meter", "holds", "lapsed", "spent")
        #: The braces keep the names of one key in one slot, should Redis be a cluster.
        self._name = f"{PREFIX}:{{{key.id}}}"
        self._keys = tuple(f"{self._name}:{name}" for name in names)
        self.set_policy(key.policy)

    def set_policy(self, policy: KeyPolicy) -> None:
        self.use.set_policy(policy)
        self._refused = None
        self._limits = (
            _or_none(policy.requests_per_minute),
            _or_none(policy.tokens_per_minute),
            _or_none(policy.concurrency),
            _in_nanos(policy.budget_usd_per_day),
            _in_nanos(policy.budget_usd_per_month),
        )
        self._is_limited = any(limit != -1 for limit in self._limits)
        self._has_budget = any(limit != -1 for limit in self._limits[3:])

    def check(self) -> None:
        if self._refused is not None:
            refusal, until_s = self._refused
            left_s = until_s - self._clock.monotonic_s()
            if left_s > 0:
                raise RateLimited(refusal.message, retry_after_s=ceil(left_s))
            self._refused = None

    async def reserve(self, tokens: int, nanos: int) -> Hold:
        if not self._is_limited:
            return Hold(tokens, nanos)
        hold = Hold(tokens, nanos, f"{secrets.token_hex(6)}:{tokens}:{nanos}")
        today = self.use.today()
        try:
            reply = await self._store.ask(
                "reserve",
                self._keys,
                *(hold.mark, tokens, nanos, round(LEASE_S * 1e3)),
                *(today.day, today.month, *self._limits),
            )
        except StoreAway:
            self._release(hold)  # in case it was taken all the same
            return self._reserve_alone(tokens, nanos)
        except asyncio.CancelledError:
            self._release(hold)
            raise
        self._take(reply, nanos)
        self.held.add(hold.mark)
        return hold

    def hold_at_once(self, tokens: int, nanos: int) -> Hold | None:
        return None if self._is_limited else Hold(tokens, nanos)

    def release(self, hold: Hold) -> None: ...

    def settle(self, hold: Hold, tokens: int, nanos: int) -> None:
        day = self.use.settle(hold, tokens, nanos)
        if not hold.mark and self._has_budget:
            self._grace_left += hold.nanos - nanos
        if hold.mark or nanos or self._limits[1] != -1:
            self._tell_settled(hold, tokens - hold.tokens, nanos, day)

    def renew(self) -> None:
        """Say that what is held is held by a living process."""
        if self.held:
            self._store.tell("renew", (self._keys[1],), round(LEASE_S * 1e3), *self.held)

    def _release(self, hold: Hold) -> None:
        """Give back what was perhaps taken: the reservation may have run though nobody heard of it."""
        self._tell_settled(hold, -hold.tokens, 0, self.use.today())

    def _tell_settled(self, hold: Hold, more_tokens: int, nanos: int, day: Day) -> None:
        self.held.discard(hold.mark)
        once = f"{self._name}:once:{hold.mark or secrets.token_hex(8)}"
        self._store.tell(
            "settle",
            (*self._keys, once),
            *(hold.mark, hold.nanos, more_tokens, nanos, day.day, day.month, self._limits[1]),
        )

    def _take(self, reply: list[Any], nanos: int) -> None:
        """Adopt what Redis said. Raises what it refused with."""
        verdict, wait_ms = reply[0].decode(), int(reply[1])
        self._grace_left = self._grace
        self.use.adopt(
            Standing(
                requests=float(reply[2]),
                tokens=float(reply[3]),
                inflight=int(reply[4]),
                held_nanos=int(reply[5]),
                spent_day_nanos=int(reply[6]),
                spent_month_nanos=int(reply[7]),
            )
        )
        if verdict == "ok":
            return
        if verdict == "concurrency":
            raise too_many_at_once(self.use.policy.concurrency or 0)
        for period, budget, left in self.budgets_left():
            if period == verdict:
                raise over_budget(period, budget, left, nanos)
        per_minute = self._limits[0 if verdict == "requests" else 1]
        refusal = over_rate(per_minute, verdict, wait_ms / 1e3)
        if verdict == "requests":  # fewer tokens might be let in sooner
            self._refused = refusal, self._clock.monotonic_s() + wait_ms / 1e3
        raise refusal

    def _reserve_alone(self, tokens: int, nanos: int) -> Hold:
        """Let a request in while nobody knows what the other processes do."""
        state = self._state
        if state.rates_when_away == "refuse" and any(limit != -1 for limit in self._limits[:3]):
            raise LimitsUnknown("what this key has used cannot be looked up now")
        if not self._has_budget or state.budgets_when_away == "local":
            return self.use.hold(tokens, nanos)
        if nanos > self._grace_left:
            raise LimitsUnknown("what this key has spent cannot be looked up now")
        hold = self.use.hold(tokens, nanos, keeps_budgets=False)
        self._grace_left -= nanos
        return hold


class SharedAccounts:
    """Meters that count together with those of other processes."""

    def __init__(self, store: SharedStore, clock: Clock, state: State) -> None:
        self._store = store
        self._clock = clock
        self._state = state
        self._meters: dict[str, SharedMeter] = {}
        self._renewed_s = clock.monotonic_s()

    def begin(self) -> None:
        self._store.begin()

    def open(self, key: Key) -> SharedMeter:
        meter = SharedMeter(key, self._clock, self._store, self._state)
        self._meters[key.id] = meter
        return meter

    async def keep_up(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._renewed_s < RENEW_S:
            return
        self._renewed_s = now_s
        for meter in self._meters.values():
            meter.renew()

    async def close(self) -> None:
        await self._store.close()


def _or_none(limit: int | None) -> int:
    return -1 if limit is None else limit


def _in_nanos(budget_usd: float | None) -> int:
    return -1 if budget_usd is None else round(budget_usd * NANOS_PER_USD)
