"""Two gateways and one Redis: keys, rates, budgets and places count for both together."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.errors import BudgetSpent, RateLimited
from gateway.settings import State
from gateway.telemetry.metrics import Metrics
from gateway.tenancy import shared
from gateway.tenancy.keys import Key, KeyPolicy, make_key
from gateway.tenancy.limits import Hold, KeyUse
from gateway.tenancy.shared import SharedMeter
from gateway.tenancy.store import SharedStore, StoredKeys
from tests.contract.test_keys import Pause
from tests.fakes.backend import completion, says
from tests.fakes.redis_server import RedisServer, redis_server
from tests.faults.conftest import Stage, eventually, stage_with

pytestmark = pytest.mark.redis
THALAMUS = Path(sys.executable).with_name("thalamus")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def stages(server: RedisServer) -> AsyncIterator[list[Stage]]:
    extra = {"auth": {"mode": "keys"}, "state": {"url": server.url, "command_ms": 2_000}}
    async with (
        stage_with(extra=extra, first_token_s=2) as one,
        stage_with(extra=extra, first_token_s=2) as two,
    ):
        for stage in (one, two):
            stage.first.will(says(completion()))
            stage.second.will(says(completion()))
        yield [one, two]
        for stage in (one, two):
            await stage.census()


async def admitted(stages: list[Stage], server: RedisServer, **policy: Any) -> Key:
    """Make a key and wait until both gateways know it."""
    token, key = make_key("test", KeyPolicy(**policy), time.time())
    StoredKeys(State(url=server.url)).add(key)
    for stage in stages:
        await eventually(lambda: key.id in stage.parts.door._principals, 4)  # noqa: B023
        stage.client.headers["authorization"] = f"Bearer {token}"
    return key


async def test_a_rate_is_one_for_all(stages, server):
    await admitted(stages, server, requests_per_minute=5)
    answers = [await stages[number % 2].ask() for number in range(7)]
    assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
    told = [a.headers["x-ratelimit-remaining-requests"] for a in answers]
    assert told == ["4", "3", "2", "1", "0", "0", "0"]
    assert 1 <= int(answers[5].headers["retry-after"]) <= 12


async def test_a_rate_that_is_used_up_is_not_asked_for_again(stages, server):
    await admitted(stages, server, requests_per_minute=1)
    asked = [await stages[0].ask() for _ in range(4)]
    assert [a.status_code for a in asked] == [200, 429, 429, 429]
    rows = [row.error_code for row in stages[0].parts.ledger.recent]
    assert rows == [None, "rate_limit_exceeded"], "the later ones were refused at the door"


async def test_places_are_shared_and_given_back(stages, server):
    await admitted(stages, server, concurrency=1)
    pause = Pause()
    stages[0].first.scripts.clear()
    stages[0].first.will(pause)
    asking = asyncio.create_task(stages[0].stream(model="first"))
    await asyncio.wait_for(pause.reached.wait(), 2)
    assert (await stages[1].ask(model="second")).status_code == 429
    pause.over.set()
    assert (await asking)[-1] == "[DONE]"
    for _ in range(50):
        if (await stages[1].ask(model="second")).status_code == 200:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the place was never given back")


async def test_a_budget_is_spent_by_both_and_never_beyond(stages, server):
    key = await admitted(stages, server, budget_usd_per_day=1e-3)

    async def use_up(stage: Stage) -> None:
        while (await stage.ask(model="first", max_tokens=100)).status_code == 200:
            pass

    await asyncio.gather(*(use_up(stage) for stage in stages for _ in range(3)))
    spent = sum(row.cost_nanos or 0 for stage in stages for row in stage.parts.ledger.recent)
    assert 0.7e6 < spent <= 1e6
    await eventually(lambda: spent_of(server, key.id) == (spent, spent), 4)
    for stage in stages:
        assert (await stage.ask(model="first", max_tokens=100)).status_code == 402


def spent_of(server: RedisServer, key_id: str) -> tuple[int, int]:
    """Nano-dollars of this day and this month."""
    found = server.client.hgetall(f"thalamus:{{{key_id}}}:spent")
    today = time.strftime("%Y-%m-%d", time.gmtime()).encode()
    return int(found.get(today, 0)), int(found.get(today[:7], 0))


async def test_tokens_are_put_right_for_all(stages, server):
    await admitted(stages, server, tokens_per_minute=400)
    assert (await stages[0].ask(model="first", max_tokens=300)).status_code == 200
    for _ in range(50):
        answer = await stages[1].ask(model="first", max_tokens=300)
        if answer.status_code == 200:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the tokens that were not used never came back")


async def test_a_key_without_limits_waits_for_nobody_and_is_accounted_for(stages, server):
    key = await admitted(stages, server)
    calls = stages[0].parts.metrics.store_calls.labels("ok")
    before = calls._values[calls._at]
    answer = await stages[0].ask(model="first")
    assert answer.status_code == 200
    cost = stages[0].parts.ledger.recent[-1].cost_nanos
    await eventually(lambda: spent_of(server, key.id) == (cost, cost), 4)
    await eventually(lambda: calls._values[calls._at] == before + 1)


async def test_commands_make_and_revoke_keys_of_every_gateway(stages, server, tmp_path):
    config = tmp_path / "thalamus.yaml"
    models = {"m": {"backends": [{"url": "http://127.0.0.1:9/v1"}]}}
    config.write_text(yaml.safe_dump({"models": models, "state": {"url": server.url}}))

    async def keys(*words: str) -> str:
        command = [THALAMUS, "keys", "--config", config, *words]
        return await asyncio.to_thread(subprocess.check_output, command, text=True)

    token = (await keys("create", "ci")).strip()
    listed = json.loads(await keys("list", "--json"))
    entry = next(e for e in listed if e["name"] == "ci" and e["id"] in token)
    for stage in stages:
        await eventually(lambda: entry["id"] in stage.parts.door._principals, 4)  # noqa: B023
        stage.client.headers["authorization"] = f"Bearer {token}"
        assert (await stage.ask()).status_code == 200
    await keys("revoke", entry["id"])
    for stage in stages:
        known = stage.parts.door._keys
        await eventually(lambda: known[entry["id"]].revoked_s is not None, 4)  # noqa: B023
        assert (await stage.ask()).status_code == 401


async def made_meter(
    server: RedisServer, policy: KeyPolicy
) -> tuple[SharedMeter, SharedStore, Key]:
    state = State(url=server.url, command_ms=5_000)
    store = SharedStore(state, Metrics())
    store.begin()
    _, key = make_key("m", policy, time.time())
    return SharedMeter(key, SystemClock(), store, state), store, key


#: What is refilled during an example is less than one of either.
_POLICIES = st.builds(
    KeyPolicy,
    requests_per_minute=st.none() | st.integers(1, 6),
    tokens_per_minute=st.none() | st.integers(1, 20),
    concurrency=st.none() | st.integers(1, 4),
    budget_usd_per_day=st.none() | st.integers(0, 9).map(lambda n: n * 1e-9),
    budget_usd_per_month=st.none() | st.integers(1, 12).map(lambda n: n * 1e-9),
)
#: A reservation of tokens and nano-dollars, or the settling of the n-th open one.
_STEPS = st.tuples(st.just("hold"), st.integers(0, 25), st.integers(0, 4)) | st.tuples(
    st.just("settle"), st.integers(0, 25), st.integers(0, 4)
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(policy=_POLICIES, steps=st.lists(_STEPS, max_size=25))
def test_redis_counts_as_a_lone_process_does(server, policy, steps):
    async def compare() -> None:
        meter, store, _ = await made_meter(server, policy)
        try:
            await steps_alike(KeyUse(policy, SystemClock()), meter, steps)
        finally:
            await store.close()

    asyncio.run(compare())


async def steps_alike(alone: KeyUse, meter: SharedMeter, steps: list[tuple[str, int, int]]) -> None:
    held: list[tuple[Hold, Hold]] = []
    for what, tokens, nanos in steps:
        if what == "settle":
            if held:
                ours, theirs = held.pop(tokens % len(held))
                alone.settle(ours, tokens, nanos)
                meter.settle(theirs, tokens, nanos)
            continue
        meter._refused = None
        try:
            ours: Hold | str = alone.hold(tokens, nanos)
        except (RateLimited, BudgetSpent) as refusal:
            ours = refusal.message
        try:
            theirs: Hold | str = await meter.reserve(tokens, nanos)
        except (RateLimited, BudgetSpent) as refusal:
            theirs = refusal.message
        if isinstance(ours, str) or isinstance(theirs, str):
            assert ours == theirs
        else:
            held.append((ours, theirs))


async def test_what_a_killed_process_held_comes_back(server, monkeypatch):
    monkeypatch.setattr(shared, "LEASE_S", 0.2)
    meter, store, key = await made_meter(server, KeyPolicy(concurrency=1, budget_usd_per_day=1.0))
    hold = await meter.reserve(10, 700_000_000)
    with pytest.raises(RateLimited):
        await meter.reserve(10, 1)
    await asyncio.sleep(0.3)
    again = await meter.reserve(10, 700_000_000)
    # The process was only slow: what its request cost is booked all the same, and once.
    meter.settle(hold, 10, 5)
    meter.settle(hold, 10, 5)
    meter.settle(again, 10, 7)
    await eventually(lambda: spent_of(server, key.id) == (12, 12), 2)
    await store.close()


async def test_what_a_living_process_holds_is_kept(server, monkeypatch):
    monkeypatch.setattr(shared, "LEASE_S", 0.5)
    meter, store, _ = await made_meter(server, KeyPolicy(concurrency=1))
    await meter.reserve(10, 0)
    for _ in range(4):
        await asyncio.sleep(0.2)
        meter.renew()
    with pytest.raises(RateLimited):
        await meter.reserve(10, 0)
    await store.close()


async def test_a_server_that_forgot_the_scripts_is_told_them_again(server):
    meter, store, _ = await made_meter(server, KeyPolicy(requests_per_minute=10))
    await meter.reserve(1, 0)
    server.client.script_flush()
    holds = await asyncio.gather(*(meter.reserve(1, 0) for _ in range(5)))
    assert len({hold.mark for hold in holds}) == 5
    await store.close()
