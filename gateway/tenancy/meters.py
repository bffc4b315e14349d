"""Counting what keys use: in this process alone, or with all others.

What is taken before a request is put right exactly once after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from gateway.clock import Clock
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import Key, KeyPolicy
from gateway.tenancy.limits import Day, Hold, KeyUse


class Meter(Protocol):
    """What one key may still use."""

    def set_policy(self, policy: KeyPolicy) -> None: ...

    def check(self) -> None:
        """Refuse early, before work is spent. Raises RateLimited or BudgetSpent."""

    async def reserve(self, tokens: int, nanos: int) -> Hold:
        """Let a request in and hold what it may use.

        Raises RateLimited, BudgetSpent, or LimitsUnknown when nobody can say.
        """

    def hold_at_once(self, tokens: int, nanos: int) -> Hold | None:
        """``reserve`` for who cannot wait; None where others have to be asked."""

    def release(self, hold: Hold) -> None:
        """Undo what ``hold_at_once`` gave, as if it had never been."""

    def settle(self, hold: Hold, tokens: int, nanos: int) -> None:
        """Put what was held right by what was used; once for each hold."""

    def headers(self) -> dict[str, str]:
        """``x-ratelimit-*``, as far as this process knows."""

    def budgets_left(self) -> list[tuple[str, float, int]]:
        """Each budget: its period, its whole in USD, and the nano-dollars left."""


class Accounts(Protocol):
    """Opens a meter for every key and sees to it that what they count is not forgotten."""

    def begin(self) -> None:
        """Start what runs beside the requests."""

    def open(self, key: Key) -> Meter: ...

    async def keep_up(self) -> None:
        """To be called about every second. Raises ConfigError; then nothing is lost."""

    async def close(self) -> None: ...


class LocalMeter:
    """One key's use, counted by this process alone."""

    def __init__(self, policy: KeyPolicy, clock: Clock) -> None:
        self._use = KeyUse(policy, clock)
        self.set_policy, self.check = self._use.set_policy, self._use.check
        self.headers, self.budgets_left = self._use.headers, self._use.budgets_left
        self.set_spent = self._use.set_spent
        self.hold_at_once, self.release = self._use.hold, self._use.release
        #: By day: nano-dollars that the file does not know of yet.
        self.unsaved: dict[str, int] = {}

    async def reserve(self, tokens: int, nanos: int) -> Hold:
        return self.hold_at_once(tokens, nanos)

    def settle(self, hold: Hold, tokens: int, nanos: int) -> None:
        day = self._use.settle(hold, tokens, nanos).day
        if nanos:
            self.unsaved[day] = self.unsaved.get(day, 0) + nanos


class LocalAccounts:
    """Meters of one process, which writes down what was spent."""

    def __init__(self, file: KeyFile, clock: Clock) -> None:
        """Read what was spent this month. Raises ConfigError when the file cannot be used."""
        self._file = file
        self._clock = clock
        self._today = Day.of(clock.wall_s())
        self._before = file.spent(self._today.month)
        self._meters: dict[str, LocalMeter] = {}

    def begin(self) -> None: ...

    def open(self, key: Key) -> LocalMeter:
        meter = self._meters[key.id] = LocalMeter(key.policy, self._clock)
        month = sum(nanos for (owner, _), nanos in self._before.items() if owner == key.id)
        meter.set_spent(self._before.get((key.id, self._today.day), 0), month)
        return meter

    async def keep_up(self) -> None:
        spent = {(i, day): nanos for i, day, nanos in self._unsaved()}
        if not spent:
            return
        await asyncio.to_thread(self._file.add_spent, spent)
        for (key_id, day), nanos in spent.items():
            unsaved = self._meters[key_id].unsaved
            unsaved[day] -= nanos
            if not unsaved[day]:
                del unsaved[day]

    async def close(self) -> None:
        await self.keep_up()

    def _unsaved(self) -> Iterable[tuple[str, str, int]]:
        for key_id, meter in self._meters.items():
            for day, nanos in meter.unsaved.items():
                yield key_id, day, nanos
