"""Who may ask, what, and how much: a real gateway that asks for keys, before scripted backends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.fakes.backend import (
    DONE,
    END_OF_STREAM,
    STREAM_HEAD,
    Connection,
    chunked,
    completion,
    event,
    says,
)
from tests.faults.conftest import Stage, eventually, stage_with


class Pause:
    """A stream that waits in its middle until it is let go on."""

    def __init__(self) -> None:
        self.reached, self.over = asyncio.Event(), asyncio.Event()

    async def __call__(self, connection: Connection) -> None:
        await connection.write(STREAM_HEAD + chunked(event("one")))
        self.reached.set()
        await self.over.wait()
        await connection.write(chunked(event("two"), DONE) + END_OF_STREAM)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.db")


@pytest.fixture
async def stage(file: KeyFile) -> AsyncIterator[Stage]:
    auth = {"mode": "keys", "keys": str(file.path)}
    async with stage_with(extra={"auth": auth}, first_token_s=2) as made:
        made.first.will(says(completion()))
        made.second.will(says(completion()))
        yield made
        await made.census()


async def admitted(stage: Stage, file: KeyFile, **policy: Any) -> str:
    """Make a key and wait until the running gateway knows it."""
    token, key = make_key("test", KeyPolicy(**policy), time.time())
    file.add(key)
    await eventually(lambda: key.id in stage.parts.door._principals, 4)
    stage.client.headers["authorization"] = f"Bearer {token}"
    return key.id


async def test_without_a_key_nobody_asks(stage):
    for headers in ({}, {"authorization": "Bearer sk-other"}, {"authorization": "Basic eDp5"}):
        answer = await stage.client.post("/v1/chat/completions", json={}, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-should-retry"] == "false"
    for path in ("/v1/models", "/v1/models/first", "/console/api/traffic", "/console/api/models"):
        assert (await stage.client.get(path)).status_code == 401
    assert (await stage.client.post("/v1/route", json={})).status_code == 401
    assert (await stage.client.get("/health/live")).status_code == 200
    assert stage.first.requests == []


async def test_a_key_made_while_serving_is_let_in_and_revoked_is_not(stage, file):
    key_id = await admitted(stage, file)
    assert (await stage.ask()).status_code == 200
    assert stage.parts.ledger.recent[-1].principal == key_id
    file.revoke(key_id, time.time())
    await eventually(lambda: stage.parts.door._keys[key_id].revoked_s is not None, 4)
    refused = await stage.ask()
    assert refused.status_code == 401
    assert "was revoked" in refused.json()["error"]["message"]


async def test_a_stream_that_began_before_its_key_was_revoked_ends_as_it_should(stage, file):
    key_id = await admitted(stage, file)
    pause = Pause()
    stage.first.scripts.clear()
    stage.first.will(pause)
    asking = asyncio.create_task(stage.stream(model="first"))
    await asyncio.wait_for(pause.reached.wait(), 2)
    file.revoke(key_id, time.time())
    await eventually(lambda: stage.parts.door._keys[key_id].revoked_s is not None, 4)
    pause.over.set()
    assert (await asking)[-1] == "[DONE]"


async def test_anthropics_clients_send_their_key_their_own_way(stage, file):
    await admitted(stage, file)
    token = stage.client.headers.pop("authorization").removeprefix("Bearer ")
    body = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    answer = await stage.client.post("/v1/messages", json=body, headers={"x-api-key": token})
    assert answer.status_code == 200


async def test_a_key_sees_and_names_only_what_it_permits(stage, file):
    await admitted(stage, file, allow=("second",))
    listed = (await stage.client.get("/v1/models")).json()["data"]
    assert [m["id"] for m in listed if not m["id"].startswith("auto")] == ["second"]
    assert listed[0]["routing"]["candidates"] == ["second"]
    assert (await stage.client.get("/v1/models/first")).status_code == 403
    refused = await stage.ask(model="first")
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "model")
    assert (await stage.ask()).headers["x-routing-model"] == "second"
    assert stage.first.requests == []


async def test_a_rate_is_told_on_every_answer_and_ends_in_a_429(stage, file):
    await admitted(stage, file, requests_per_minute=2)
    told = [await stage.ask(), await stage.ask()]
    assert [a.headers["x-ratelimit-remaining-requests"] for a in told] == ["1", "0"]
    assert told[0].headers["x-ratelimit-limit-requests"] == "2"
    refused = await stage.ask()
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert int(refused.headers["retry-after-ms"]) == 1_000 * int(refused.headers["retry-after"])
    assert "x-should-retry" not in refused.headers
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


async def test_the_sdk_knows_the_errors_of_a_key(stage, file):
    await admitted(stage, file, requests_per_minute=1)
    key = stage.client.headers["authorization"].removeprefix("Bearer ")
    url = f"http://127.0.0.1:{stage.port}/v1"
    ask: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        await client.chat.completions.create(**ask)
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**ask)
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="sk-none").chat.completions.create(**ask)


async def test_tokens_are_held_before_and_put_right_after(stage, file):
    await admitted(stage, file, tokens_per_minute=400)
    pause = Pause()
    stage.first.scripts.clear()
    stage.first.will(pause)
    asking = asyncio.create_task(stage.stream(model="first", max_tokens=300))
    await asyncio.wait_for(pause.reached.wait(), 2)
    assert (await stage.ask(model="second", max_tokens=300)).status_code == 429
    pause.over.set()
    await asking
    assert (await stage.ask(model="second", max_tokens=300)).status_code == 200


async def test_a_budget_is_spent_and_remembered(stage, file):
    # 10 + 5 tokens at 1 and 2 USD a million: a fifth of the budget or so a request.
    key_id = await admitted(stage, file, budget_usd_per_day=1e-3)
    statuses = []
    for _ in range(400):
        answer = await stage.ask(model="first", max_tokens=100)
        statuses.append(answer.status_code)
        if answer.status_code != 200:
            break
    assert statuses[0] == 200
    assert statuses[-1] == 402
    error = answer.json()["error"]
    assert error["code"] == "budget_exceeded"
    assert "USD a day are left" in error["message"]
    assert answer.headers["x-routing-model"] == "first"
    refused = stage.parts.ledger.recent[-1]
    assert (refused.error_code, refused.outcome, refused.attempts) == (
        "budget_exceeded",
        "error",
        0,
    )
    spent = sum(row.cost_nanos or 0 for row in stage.parts.ledger.recent)
    assert spent <= 1e-3 * 1e9
    await eventually(
        lambda: sum(file.spent(time.strftime("%Y-%m", time.gmtime())).values()) == spent, 4
    )
    assert key_id in {owner for owner, _ in file.spent(time.strftime("%Y-%m", time.gmtime()))}
    for _ in range(30):
        if await budget_left(stage) == pytest.approx((1e-3 * 1e9 - spent) / 1e9):
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("the metric never told what is left")


async def budget_left(stage: Stage) -> float | None:
    lines = (await stage.client.get("/metrics")).text.splitlines()
    told = [li for li in lines if li.startswith('thalamus_budget_remaining_usd{period="day"}')]
    return float(told[0].split()[-1]) if told else None


async def test_what_was_spent_is_known_to_the_next_start(file, tmp_path):
    token, key = make_key("test", KeyPolicy(budget_usd_per_month=1e-3), time.time())
    file.add(key)
    file.add_spent({(key.id, time.strftime("%Y-%m-%d", time.gmtime())): 2_000_000})
    auth = {"mode": "keys", "keys": str(file.path)}
    async with stage_with(extra={"auth": auth}) as stage:
        answer = await stage.client.post(
            "/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": "Hi"}]},
            headers={"authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 402


async def test_only_so_many_at_once(stage, file):
    await admitted(stage, file, concurrency=1)
    pause = Pause()
    stage.first.scripts.clear()
    stage.first.will(pause)
    asking = asyncio.create_task(stage.stream(model="first"))
    await asyncio.wait_for(pause.reached.wait(), 2)
    assert (await stage.ask()).status_code == 429
    pause.over.set()
    assert (await asking)[-1] == "[DONE]"
    assert (await stage.ask(model="second")).status_code == 200


async def test_a_file_that_breaks_while_serving_changes_nothing(stage, file):
    key_id = await admitted(stage, file)
    file.path.write_bytes(b"no database any more " * 500)
    await asyncio.sleep(1.5)
    assert (await stage.ask()).status_code == 200
    assert stage.parts.ledger.recent[-1].principal == key_id
