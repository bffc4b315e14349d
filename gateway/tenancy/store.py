"""What the processes of a gateway share, in Redis. The only file that imports it.

One task owns the one connection of a process and sends what has gathered as one pipeline, so that
no caller waits for a free connection, can be cancelled in the middle of an exchange, or reads
another's reply. While Redis is away nobody waits for it at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import deque
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec
import redis
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.retry import Retry as BlockingRetry

from gateway.errors import ConfigError, StoreAway
from gateway.settings import State
from gateway.strands import in_task
from gateway.tasks import TaskGroup
from gateway.telemetry.metrics import Metrics
from gateway.tenancy.keys import Key

_log = logging.getLogger(__name__)

#: Before every name that is written.
PREFIX = "thalamus"
SCRIPTS = ("reserve", "settle", "renew")
#: Commands sent at once.
MAX_BATCH = 256
#: Commands that must happen and wait for Redis to come back; the oldest are lost first.
MAX_WAITING = 100_000
#: Failures in a row after which Redis counts as away; the first may be a connection that was closed.
FAILURES_UNTIL_AWAY = 2
_CONNECT_S = 1.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
_CLOSE_S = 2.0
#: What says that no command will work there, rather than that one was wrong.
_UNUSABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.NoPermissionError,
    OSError,
)


class _Call(msgspec.Struct):
    """One script to run; ``answer`` is None where nobody waits and it must happen some time."""

    script: str
    keys: tuple[str, ...]
    args: tuple[str | int, ...]
    answer: asyncio.Future[list[Any]] | None

    @property
    def is_wanted(self) -> bool:
        return self.answer is None or not self.answer.done()


class SharedStore:
    """Runs scripts in Redis for a process. ``begin`` wants a running event loop."""

    def __init__(self, state: State, metrics: Metrics) -> None:
        self._command_s = state.command_ms / 1e3
        self._metrics = metrics
        self._redis = Redis.from_url(
            state.url,
            socket_timeout=self._command_s,
            socket_connect_timeout=_CONNECT_S,
            retry=Retry(NoBackoff(), 0),
            **_credentials(state),
        )
        texts = {name: _script(name) for name in SCRIPTS}
        self._texts = texts
        self._hashes = {n: hashlib.sha1(t.encode()).hexdigest() for n, t in texts.items()}  # noqa: S324
        self._waiting: deque[_Call] = deque()
        self._something = asyncio.Event()
        self._closing = asyncio.Event()
        self._failures = 0
        self._tasks = TaskGroup()
        self.is_away = False
        metrics.store_up.set(1)

    def begin(self) -> None:
        """Start sending; a second call changes nothing."""
        if not len(self._tasks):
            self._tasks.spawn("store", self._drive())

    async def ask(self, script: str, keys: Sequence[str], *args: str | int) -> list[Any]:
        """Run a script and wait for what it says, ``state.command_ms`` at most.

        Raises StoreAway when there is no answer; then it may have run all the same.
        """
        if self.is_away:
            self._metrics.store_calls.labels("skipped").inc()
            raise StoreAway("Redis is away")
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._put(_Call(script, tuple(keys), args, answer))
        await in_task()
        try:
            async with asyncio.timeout(self._command_s):
                return await answer
        except TimeoutError:
            self._metrics.store_calls.labels("failed").inc()
            raise StoreAway("Redis did not answer in time") from None

    def tell(self, script: str, keys: Sequence[str], *args: str | int) -> None:
        """Run a script once Redis can be reached; it must bear being run twice."""
        self._put(_Call(script, tuple(keys), args, None))

    async def close(self) -> None:
        """Send what waits, if Redis takes it soon, and end the connection."""
        self._closing.set()
        self._something.set()
        if len(self._tasks):
            ends_at = asyncio.get_running_loop().time() + _CLOSE_S
            while len(self._tasks) and asyncio.get_running_loop().time() < ends_at:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await self._tasks.close()
        if self._waiting:
            self._lose(len(self._waiting), "the process ends while Redis is away")
        await self._redis.aclose()

    def _put(self, call: _Call) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lose(1, "too many wait for Redis")
        self._waiting.append(call)
        self._metrics.store_waiting.set(len(self._waiting))
        self._something.set()

    async def _drive(self) -> None:
        """Send what waits until the store is closed and nothing waits, or Redis is away by then."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._something.wait()
            if self.is_away:
                if await self._is_still_away(pause_s):
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                else:
                    pause_s = _FIRST_PAUSE_S
                    self._come_back()
            elif self._waiting:
                await self._send_batch()
            else:
                self._something.clear()
            if self._closing.is_set() and (self.is_away or not self._waiting):
                return

    async def _is_still_away(self, pause_s: float) -> bool:
        """Wait, then try to write: a replica that was not promoted answers everything else."""
        try:
            async with asyncio.timeout(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311
                await self._closing.wait()
        except TimeoutError:
            pass
        try:
            await self._redis.set(f"{PREFIX}:probe", 1, ex=60)
        except (exceptions.RedisError, OSError):
            return True
        return False

    def _come_back(self) -> None:
        self.is_away = False
        self._failures = 0
        self._metrics.store_up.set(1)
        _log.warning("Redis is back; %d settlements waited for it", len(self._waiting))

    async def _send_batch(self) -> None:
        batch: list[_Call] = []
        while self._waiting and len(batch) < MAX_BATCH:
            call = self._waiting.popleft()
            if call.is_wanted:
                batch.append(call)
        self._metrics.store_waiting.set(len(self._waiting))
        try:
            replies = await self._run(batch)
        except _UNUSABLE as error:
            self._fail(batch, error)
            await self._redis.connection_pool.disconnect()
            return
        self._failures = 0
        self._metrics.store_calls.labels("ok").inc(len(batch))
        for call, reply in zip(batch, replies, strict=True):
            self._answer(call, reply)

    async def _run(self, batch: Sequence[_Call]) -> list[Any]:
        """The reply of each call: what its script returned, or the error that is its own."""
        replies = await self._run_known(batch)
        unknown = [i for i, r in enumerate(replies) if isinstance(r, exceptions.NoScriptError)]
        if unknown:  # a server that has just started
            for text in self._texts.values():
                await self._redis.script_load(text)
            again = await self._run_known([batch[i] for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, _UNUSABLE):
                raise reply
        return replies

    async def _run_known(self, batch: Sequence[_Call]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for call in batch:
                pipe.evalsha(self._hashes[call.script], len(call.keys), *call.keys, *call.args)
            return list(await pipe.execute(raise_on_error=False))

    def _answer(self, call: _Call, reply: Any) -> None:
        error = reply if isinstance(reply, Exception) else None
        if call.answer is None:
            if error is not None:
                self._lose(1, f"Redis refuses {call.script} of {call.keys[0]}: {error}")
        elif call.answer.done():
            pass
        elif error is not None:
            _log.error("Redis refuses %s of %s: %s", call.script, call.keys[0], error)
            call.answer.set_exception(StoreAway(str(error)))
        else:
            call.answer.set_result(reply)

    def _fail(self, batch: Sequence[_Call], error: Exception) -> None:
        """Let who waits go on alone, and keep what must happen for the next time, in its order."""
        self._metrics.store_calls.labels("failed").inc(len(batch))
        self._waiting.extendleft(call for call in reversed(batch) if call.answer is None)
        for call in batch:
            if call.answer is not None and not call.answer.done():
                call.answer.set_exception(StoreAway(str(error)))
        self._failures += 1
        if self._failures < FAILURES_UNTIL_AWAY:
            return
        self.is_away = True
        self._metrics.store_up.set(0)
        _log.error("Redis is away, this process counts alone: %s", error)

    def _lose(self, count: int, why: str) -> None:
        self._metrics.store_lost.inc(count)
        _log.error("%d settlements are lost: %s", count, why)


class StoredKeys:
    """The keys, where all gateways see them: one hash of records, one of when each was revoked.

    Opens a connection for each call, so that any thread and any command may make one.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: tuple[int, list[Key]] | None = None
        self.place = state.url

    def add(self, key: Key) -> None:
        """Keep a key. Raises StoreAway when Redis cannot be reached."""
        with _Opened(self._state) as db:
            pipe = db.pipeline()
            pipe.hset(f"{PREFIX}:keys", key.id, msgspec.json.encode(key).decode())
            pipe.incr(f"{PREFIX}:keys:version")
            pipe.execute()

    def revoke(self, key_id: str, now_s: float) -> bool:
        """Revoke a key for ever; False when there is none. The first time of it is kept."""
        with _Opened(self._state) as db:
            if not db.hexists(f"{PREFIX}:keys", key_id):
                return False
            pipe = db.pipeline()
            pipe.hsetnx(f"{PREFIX}:keys:revoked", key_id, repr(now_s))
            pipe.incr(f"{PREFIX}:keys:version")
            pipe.execute()
            return True

    def read(self) -> list[Key]:
        """All keys, the oldest first; fetched only when one has changed."""
        with _Opened(self._state) as db:
            version = int(db.get(f"{PREFIX}:keys:version") or 0)
            if self._known is not None and self._known[0] == version:
                return self._known[1]
            pipe = db.pipeline()
            pipe.hgetall(f"{PREFIX}:keys")
            pipe.hgetall(f"{PREFIX}:keys:revoked")
            records, revoked = pipe.execute()
        keys = [_key(i.decode(), text, revoked.get(i)) for i, text in records.items()]
        keys.sort(key=lambda key: (key.created_s, key.id))
        self._known = version, keys
        return keys


class _Opened:
    """A blocking client that says in our words what went wrong."""

    def __init__(self, state: State) -> None:
        self._client = redis.Redis.from_url(
            state.url,
            socket_timeout=_CONNECT_S,
            socket_connect_timeout=_CONNECT_S,
            retry=BlockingRetry(NoBackoff(), 0),
            **_credentials(state),
        )

    def __enter__(self) -> redis.Redis:
        return self._client

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._client.close()
        if isinstance(error, exceptions.RedisError | OSError):
            raise StoreAway(f"state.url: {error}") from error


def _key(key_id: str, text: bytes, revoked: bytes | None) -> Key:
    try:
        key = msgspec.json.decode(text, type=Key)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"state.url: {PREFIX}:keys: {key_id}: {error}") from error
    return key if revoked is None else msgspec.structs.replace(key, revoked_s=float(revoked))


def _credentials(state: State) -> dict[str, Any]:
    password = None if state.password is None else state.password.get_secret_value()
    return {"username": state.username, "password": password}


def _script(name: str) -> str:
    return resources.files("gateway.tenancy").joinpath("lua", f"{name}.lua").read_text()
