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
from gateway.errors import ConfigError, Forbidden, LimitsUnknown, StoreAway, Unauthenticated
from gateway.settings import Config
from gateway.telemetry.metrics import Metrics
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import Key, KeyPolicy, id_in, shown_key
from gateway.tenancy.limits import NANOS_PER_USD
from gateway.tenancy.meters import Accounts, LocalAccounts, Meter
from gateway.tenancy.shared import SharedAccounts
from gateway.tenancy.store import SharedStore, StoredKeys

_log = logging.getLogger(__name__)

#: How soon a revoked key is refused, and how much spending a kill of the process forgets, at most.
REFRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Principal:
    """``routing`` holds the defaults and clamps of its key; None leaves the caller free."""

    name: str
    routing: KeyRouting | None = None
    policy: KeyPolicy | None = None
    meter: Meter | None = None

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
        self._everybody = Principal(ANONYMOUS.name, routing)

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        return self._everybody

    async def close(self) -> None: ...


class KeyBook(Protocol):
    """Where keys are kept; ``place`` is its path or address, for people."""

    place: str

    def add(self, key: Key) -> None:
        """Raises ConfigError, as the others do, when it cannot be used; StoreAway, when not now."""

    def revoke(self, key_id: str, now_s: float) -> bool:
        """Revoke a key for ever; False when there is none."""

    def read(self) -> list[Key]:
        """All keys, the oldest first."""


class KeyDoor:
    """``auth.mode: keys``: who shows a key that is kept in the book, is not revoked and not old."""

    def __init__(self, book: KeyBook, accounts: Accounts, clock: Clock, metrics: Metrics) -> None:
        """Read the book. Raises ConfigError when it cannot be used; one that is away is waited for."""
        self._book = book
        self._accounts = accounts
        self._clock = clock
        self._metrics = metrics
        self._keys: dict[str, Key] = {}
        self._principals: dict[str, Principal] = {}
        self._has_keys = False
        self._trouble = ""
        try:
            self._take(book.read())
        except StoreAway as error:
            self._note_trouble(error.message)

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        token = shown_key(headers)
        if token is None:
            raise Unauthenticated("send a key as authorization: Bearer sk-thalamus-…")
        if not self._has_keys:
            raise LimitsUnknown("keys cannot be looked up yet")
        key_id = id_in(token)
        key = self._keys.get(key_id or "")
        if key is None or not key.matches(token):
            raise Unauthenticated("this key is not known")
        ended = key.end_of(self._clock.wall_s())
        if ended is not None:
            raise Unauthenticated(f"this key {ended}")
        return self._principals[key.id]

    async def keep_up(self) -> None:
        """Follow what commands change in the book, and keep what was used, for ever."""
        self._accounts.begin()
        while True:
            await asyncio.sleep(REFRESH_S)
            self._publish_budgets()
            try:
                self._take(await asyncio.to_thread(self._book.read))
                await self._accounts.keep_up()
            except (ConfigError, StoreAway) as error:
                # The keys known so far stay in force; what was spent is kept for the next time.
                self._note_trouble(error.message)
            else:
                self._note_trouble("")

    def _note_trouble(self, trouble: str) -> None:
        """Log what is wrong once, and once that it is over."""
        if trouble and not self._trouble:
            _log.error("%s", trouble)
        elif self._trouble and not trouble:
            _log.warning("keys can be read again")
        self._trouble = trouble

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

    async def close(self) -> None:
        try:
            await self._accounts.close()
        except ConfigError as error:
            _log.error("what was spent in the last second is lost: %s", error)

    def _take(self, keys: list[Key]) -> None:
        self._has_keys = True
        for key in keys:
            if self._keys.get(key.id) == key:
                continue
            known = self._principals.get(key.id)
            meter = None if known is None else known.meter
            if meter is None:
                meter = self._accounts.open(key)
            else:
                meter.set_policy(key.policy)
            self._principals[key.id] = Principal(key.id, routing_of(key.policy), key.policy, meter)
        # Keys are revoked, never removed: one that is missing was lost, by no fault of its holder.
        self._keys |= {key.id: key for key in keys}


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


def open_book(config: Config) -> KeyBook:
    """Where the keys of this configuration are kept."""
    return StoredKeys(config.state) if config.state.is_shared else KeyFile(config.auth.keys)


def open_door(config: Config, clock: Clock, metrics: Metrics) -> Door:
    """Build the door that the configuration asks for. Raises ConfigError."""
    if config.auth.mode == "open":
        return OpenDoor(reads_inline_flags=config.auth.inline_flags)
    if config.state.is_shared:
        store = SharedStore(config.state, metrics)
        accounts: Accounts = SharedAccounts(store, clock, config.state)
    else:
        accounts = LocalAccounts(KeyFile(config.auth.keys), clock)
    return KeyDoor(open_book(config), accounts, clock, metrics)
