"""Who a request belongs to, and who may ask at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.clock import Clock
from gateway.decision.flag_fields import read_routing
from gateway.decision.flags import FlagError, KeyRouting
from gateway.errors import ConfigError, Forbidden, Unauthenticated
from gateway.settings import Auth
from gateway.telemetry.metrics import Metrics
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import Key, KeyPolicy, id_in, shown_key
from gateway.tenancy.limits import NANOS_PER_USD, Day, KeyMeter

_log = logging.getLogger(__name__)

#: How soon a revoked key is refused, and how much spending a kill of the process forgets, at most.
REFRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Principal:
    """``routing`` holds the defaults and clamps of its key; None leaves the caller free."""

    name: str
    routing: KeyRouting | None = None
    policy: KeyPolicy | None = None
    meter: KeyMeter | None = None

    def check_model(self, model: str | None) -> None:
        """Raise Forbidden for a named model that the key does not permit."""
        if model is not None and self.policy is not None and not self.policy.permits(model):
            raise Forbidden("this key does not permit the model", param="model")

    def permits(self, model: str) -> bool:
        return self.policy is None or self.policy.permits(model)


ANONYMOUS = Principal("anonymous")


class Door(Protocol):
    """Who is let in."""

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Tell whose request this is; names are lower case. Raises Unauthenticated."""

    async def close(self) -> None:
        """Write down what must not be lost."""


class OpenDoor:
    """``auth.mode: open``: everybody is let in, keys are not read."""

    def __init__(self, *, reads_inline_flags: bool = False) -> None:
        routing = KeyRouting(reads_inline_flags=True) if reads_inline_flags else None
        self._everybody = Principal("anonymous", routing)

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        return self._everybody

    async def close(self) -> None: ...


class KeyDoor:
    """``auth.mode: keys``: who shows a key that is kept in the file, is not revoked and not old."""

    def __init__(self, file: KeyFile, clock: Clock, metrics: Metrics) -> None:
        """Read the file. Raises ConfigError when it cannot be used."""
        self._file = file
        self._clock = clock
        self._metrics = metrics
        self._keys: dict[str, Key] = {}
        self._principals: dict[str, Principal] = {}
        self._take(file.read())
        today = Day.of(clock.wall_s())
        spent = file.spent(today.month)
        for key_id, principal in self._principals.items():
            if principal.meter is not None:
                month = sum(nanos for (owner, _), nanos in spent.items() if owner == key_id)
                principal.meter.set_spent(spent.get((key_id, today.day), 0), month)

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        token = shown_key(headers)
        if token is None:
            raise Unauthenticated("send a key as authorization: Bearer sk-thalamus-…")
        key_id = id_in(token)
        key = self._keys.get(key_id or "")
        if key is None or not key.matches(token):
            raise Unauthenticated("this key is not known")
        ended = key.end_of(self._clock.wall_s())
        if ended is not None:
            raise Unauthenticated(f"this key {ended}")
        return self._principals[key.id]

    async def keep_up(self) -> None:
        """Follow what commands change in the file, and write down what was spent, for ever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            self._publish_budgets()
            try:
                self._take(await asyncio.to_thread(self._file.read))
                await self.save_spent()
            except ConfigError as error:
                # The keys known so far stay in force; what was spent is kept for the next time.
                _log.error("%s", error)

    def _publish_budgets(self) -> None:
        """Show the least that any valid key has left; no metric tells which key."""
        least: dict[str, int] = {}
        now_s = self._clock.wall_s()
        for key_id, principal in self._principals.items():
            if principal.meter is None or self._keys[key_id].end_of(now_s) is not None:
                continue
            for period, _, left in principal.meter.budgets_left():
                least[period] = min(left, least.get(period, left))
        for period, left in least.items():
            self._metrics.budget_remaining_usd.labels(period).set(left / NANOS_PER_USD)

    async def save_spent(self) -> None:
        """Write down what was spent since the last time. Raises ConfigError; then nothing is lost."""
        meters = [(i, p.meter) for i, p in self._principals.items() if p.meter is not None]
        spent = {(i, day): nanos for i, m in meters for day, nanos in m.unsaved.items()}
        if not spent:
            return
        await asyncio.to_thread(self._file.add_spent, spent)
        for key_id, meter in meters:
            for day in list(meter.unsaved):
                meter.unsaved[day] -= spent.get((key_id, day), 0)
                if not meter.unsaved[day]:
                    del meter.unsaved[day]

    async def close(self) -> None:
        try:
            await self.save_spent()
        except ConfigError as error:
            _log.error("what was spent in the last second is lost: %s", error)

    def _take(self, keys: list[Key]) -> None:
        for key in keys:
            if self._keys.get(key.id) == key:
                continue
            known = self._principals.get(key.id)
            meter = None if known is None else known.meter
            if meter is None:
                meter = KeyMeter(key.policy, self._clock)
            else:
                meter.set_policy(key.policy)
            self._principals[key.id] = Principal(key.id, routing_of(key.policy), key.policy, meter)
        self._keys = {key.id: key for key in keys}


def routing_of(policy: KeyPolicy) -> KeyRouting | None:
    """What a key says of routing; None where it says nothing.

    Raises ConfigError for defaults that are no ``routing`` object.
    """
    try:
        defaults = read_routing(policy.routing)
    except FlagError as error:
        raise ConfigError(f"the key's {error}") from error
    routing = KeyRouting(
        defaults,
        policy.allow,
        policy.deny,
        policy.min_quality,
        policy.max_cost_usd,
        policy.max_ttft_ms,
        policy.max_latency_ms,
        policy.inline_flags,
    )
    return None if routing == KeyRouting() else routing


def open_door(auth: Auth, clock: Clock, metrics: Metrics) -> Door:
    """Build the door that the configuration asks for. Raises ConfigError."""
    if auth.mode == "open":
        return OpenDoor(reads_inline_flags=auth.inline_flags)
    return KeyDoor(KeyFile(auth.keys), clock, metrics)
