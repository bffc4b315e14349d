"""Redis down, killed, frozen, slow, read-only, full and wrong: requests go on, and nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreAway
from gateway.settings import State
from gateway.telemetry.metrics import Metrics
from gateway.tenancy.keys import Key, KeyPolicy, make_key
from gateway.tenancy.store import SharedStore, StoredKeys
from tests.fakes.backend import completion, says
from tests.fakes.proxy import fault_proxy
from tests.fakes.redis_server import RedisServer, redis_server
from tests.faults.conftest import Stage, eventually, stage_with

pytestmark = pytest.mark.redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def stage_at(url: str, **state: Any) -> AsyncIterator[Stage]:
    extra = {"auth": {"mode": "keys"}, "state": {"url": url, **state}}
    async with stage_with(extra=extra) as stage:
        stage.first.will(says(completion()))
        stage.second.will(says(completion()))
        yield stage
        await stage.census()


async def admitted(stage: Stage, server: RedisServer, **policy: Any) -> Key:
    token, key = make_key("test", KeyPolicy(**policy), time.time())
    StoredKeys(State(url=server.url)).add(key)
    await eventually(lambda: key.id in stage.parts.door._principals, 4)
    stage.client.headers["authorization"] = f"Bearer {token}"
    return key


def store_of(stage: Stage) -> SharedStore:
    store = stage.parts.door._accounts._store
    assert isinstance(store, SharedStore)
    return store


def spent_of(server: RedisServer, key: Key) -> int:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return int(server.client.hget(f"thalamus:{{{key.id}}}:spent", today) or 0)


def paid(stage: Stage) -> int:
    return sum(row.cost_nanos or 0 for row in stage.parts.ledger.recent)


def told(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


async def asked(stage: Stage, times: int = 10) -> list[int]:
    return [(await stage.ask(model="first")).status_code for _ in range(times)]


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_requests_go_on_and_are_booked_when_redis_is_back(server, fault, caplog):
    caplog.set_level(logging.INFO)
    async with stage_at(server.url) as stage:
        key = await admitted(stage, server, requests_per_minute=1_000)
        assert await asked(stage) == [200] * 10
        getattr(server, fault)()
        began_s = time.monotonic()
        assert await asked(stage, 100) == [200] * 100
        # Two commands wait for 50 ms each; then nobody asks. A hundred waits would take 5 s.
        assert time.monotonic() - began_s < 4
        assert store_of(stage).is_away
        assert "thalamus_store_up 0.0" in (await stage.client.get("/metrics")).text
        server.start() if fault == "kill" else server.thaw()
        await eventually(lambda: not store_of(stage).is_away, 8)
        await eventually(lambda: spent_of(server, key) == paid(stage), 4)
        assert await asked(stage) == [200] * 10
        await eventually(lambda: spent_of(server, key) == paid(stage), 4)
        assert server.client.zcard(f"thalamus:{{{key.id}}}:holds") == 0
        assert "thalamus_store_lost_total 0.0" in (await stage.client.get("/metrics")).text
    assert told(caplog, "Redis is away") == 1
    assert told(caplog, "Redis is back") == 1


async def test_a_slow_redis_is_as_good_as_none(server):
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(fault_proxy(server.port))
        url = f"redis://127.0.0.1:{proxy.port}/0"
        stage = await stack.enter_async_context(stage_at(url))
        key = await admitted(stage, server, requests_per_minute=1_000)
        assert await asked(stage) == [200] * 10
        proxy.toxics.latency_s = 0.5
        assert await asked(stage, 20) == [200] * 20
        assert store_of(stage).is_away
        proxy.toxics.latency_s = 0.0
        await eventually(lambda: not store_of(stage).is_away, 8)
        # What Redis had done though nobody heard of it is not booked a second time.
        await eventually(lambda: spent_of(server, key) == paid(stage), 4)


@pytest.mark.parametrize(
    ("spoil", "repair"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    ],
    ids=["read-only replica", "out of memory"],
)
async def test_a_redis_that_cannot_be_written_is_as_good_as_none(server, spoil, repair):
    async with stage_at(server.url) as stage:
        key = await admitted(stage, server, requests_per_minute=1_000)
        server.client.execute_command(*spoil)
        assert await asked(stage, 20) == [200] * 20
        assert store_of(stage).is_away
        server.client.execute_command(*repair)
        await eventually(lambda: not store_of(stage).is_away, 8)
        await eventually(lambda: spent_of(server, key) == paid(stage), 4)


async def test_a_value_that_is_not_ours_concerns_its_key_alone(server, caplog):
    async with stage_at(server.url) as stage:
        key = await admitted(stage, server, requests_per_minute=1_000)
        server.client.set(f"thalamus:{{{key.id}}}:meter", "what is this")
        assert await asked(stage, 5) == [200] * 5
        assert not store_of(stage).is_away
        assert told(caplog, "WRONGTYPE") >= 5
        other = await admitted(stage, server, requests_per_minute=3)
        assert await asked(stage, 5) == [200] * 3 + [429] * 2
        assert server.client.type(f"thalamus:{{{other.id}}}:meter") == b"hash"


async def test_while_redis_is_away_rates_are_kept_by_each_process(server):
    async with stage_at(server.url) as stage:
        await admitted(stage, server, requests_per_minute=6)
        assert await asked(stage, 2) == [200] * 2
        server.kill()
        assert await asked(stage, 6) == [200] * 4 + [429] * 2


async def test_while_redis_is_away_rates_may_be_refused(server):
    async with stage_at(server.url, rates_when_away="refuse") as stage:
        await admitted(stage, server, requests_per_minute=6)
        server.kill()
        answer = await stage.ask()
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "limits_unavailable"
        assert answer.headers["retry-after"] == "1"


async def test_while_redis_is_away_a_budget_is_worth_its_grace_alone(server):
    # A request holds 228,000 nano-dollars and costs 18,000.
    async with stage_at(server.url, grace_usd=3e-4) as stage:
        key = await admitted(stage, server, budget_usd_per_day=100.0)
        assert (await stage.ask(model="first", max_tokens=100)).status_code == 200
        server.kill()
        before = paid(stage)
        answers = [await stage.ask(model="first", max_tokens=100) for _ in range(20)]
        statuses = [a.status_code for a in answers]
        assert statuses[0] == 200
        assert statuses[-1] == 503
        assert answers[-1].json()["error"]["code"] == "limits_unavailable"
        assert paid(stage) - before <= 300_000
        server.start()
        await eventually(lambda: not store_of(stage).is_away, 8)
        assert (await stage.ask(model="first", max_tokens=100)).status_code == 200
        await eventually(lambda: spent_of(server, key) == paid(stage), 4)


async def test_while_redis_is_away_a_budget_may_be_kept_locally(server):
    async with stage_at(server.url, budgets_when_away="local", grace_usd=0) as stage:
        await admitted(stage, server, budget_usd_per_day=1e-3)
        assert (await stage.ask(model="first", max_tokens=100)).status_code == 200
        server.kill()
        while (status := (await stage.ask(model="first", max_tokens=100)).status_code) == 200:
            pass
        assert status == 402
        assert 0.7e6 < paid(stage) <= 1e6


async def test_without_redis_at_the_start_nobody_is_let_in_until_it_is_there(server):
    token, key = make_key("test", KeyPolicy(), time.time())
    StoredKeys(State(url=server.url)).add(key)
    server.kill()
    async with stage_at(server.url) as stage:
        stage.client.headers["authorization"] = f"Bearer {token}"
        refused = await stage.ask()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "limits_unavailable"
        assert (await stage.client.get("/health/live")).status_code == 200
        server.start()
        await eventually(lambda: key.id in stage.parts.door._principals, 8)
        assert (await stage.ask()).status_code == 200


async def test_a_redis_that_lost_everything_locks_nobody_out(server):
    async with stage_at(server.url) as stage:
        await admitted(stage, server, requests_per_minute=1_000)
        server.client.flushall()
        await asyncio.sleep(1.5)
        assert await asked(stage, 3) == [200] * 3


async def test_nobody_reads_anothers_reply(server):
    """Callers give up at any moment, replies come late and in pieces: each gets its own or none."""
    names = [f"k{number}" for number in range(40)]
    for number, name in enumerate(names):
        server.client.hset(f"thalamus:{{{name}}}:spent", "2026-11-24", 1_000 + number)
    async with fault_proxy(server.port) as proxy:
        proxy.toxics.slice_bytes = 40
        state = State(url=f"redis://127.0.0.1:{proxy.port}/0", command_ms=200)
        store = SharedStore(state, Metrics())
        store.begin()
        answers = 0

        async def ask(number: int, patience_s: float) -> None:
            nonlocal answers
            keys = [
                f"thalamus:{{{names[number]}}}:{n}" for n in ("meter", "holds", "lapsed", "spent")
            ]
            limits = (5, 1, 60_000, "2026-11-24", "2026-11", -1, -1, -1, -1, -1)
            try:
                async with asyncio.timeout(patience_s):
                    reply = await store.ask("reserve", keys, f"m{number}:5:1", *limits)
            except (TimeoutError, StoreAway):
                return
            answers += 1
            assert int(reply[6]) == 1_000 + number

        for turn in range(30):
            proxy.toxics.latency_s = 0.0 if turn % 3 else 0.004
            waits = [0.001 * (1 + (number * 7 + turn) % 60) for number in range(40)]
            await asyncio.gather(*(ask(number, waits[number]) for number in range(40)))
        assert answers > 200
        await store.close()


async def test_settlements_that_nobody_can_take_are_counted_as_lost(server, caplog):
    metrics = Metrics()
    store = SharedStore(State(url=server.url), metrics)
    store.begin()
    server.kill()
    for number in range(7):
        store.tell("renew", (f"thalamus:{number}",), 1, "m")
    await store.close()
    assert metrics.store_lost._values[metrics.store_lost._at] == 7
    assert told(caplog, "7 settlements are lost") == 1
