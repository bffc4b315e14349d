"""The short way answers as the long one does: the same headers, the same body, the same row."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.ledger.accounting import LedgerRow
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.fakes.backend import (
    Connection,
    ScriptedBackend,
    completion,
    json_answer,
    says,
    scripted_backend,
    then_closes,
)
from tests.faults.conftest import Stage, eventually, stage_with

#: A header that no ordinary client sends, and no part of the gateway reads.
LONG_WAY = {"x-out-of-the-ordinary": "1"}
#: Differ between any two requests.
OWN = ("x-request-id", "x-routing-decision-id", "x-routing-overhead-ms", "date")

PINNED = {"model": "second", "messages": [{"role": "user", "content": "Hi"}]}
AUTO = {**PINNED, "model": "auto"}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with stage_with(first_token_s=0.5, answer_s=0.5, idle_s=0.3, send_s=0.5) as made:
        yield made
        await made.census()


def answer_of(**fields: Any) -> bytes:
    """A whole answer of a backend; None leaves a field out."""
    whole = {
        "id": "c1",
        "object": "chat.completion",
        "model": "second",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hello"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    }
    return json_answer({k: v for k, v in {**whole, **fields}.items() if v is not None})


def kept(headers: httpx2.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in OWN}


def same_row(row: LedgerRow) -> dict[str, Any]:
    own = {"request_id", "decision_id", "at_s", "duration_ms"}
    return {name: getattr(row, name) for name in row.__struct_fields__ if name not in own}


async def ask_both_ways(
    stage: Stage, backend: ScriptedBackend, body: bytes, answer: bytes
) -> tuple[httpx2.Response, httpx2.Response]:
    """The answers of the long and of the short way to the same request, in this order.

    The first leaves a connection that idles, without which there is no short way.
    """
    found = []
    for headers in (LONG_WAY, {}):
        ways: list[int] = []

        async def act(connection: Connection, ways: list[int] = ways) -> None:
            ways.append(stage.parts.ledger.open_errands)
            await says(answer)(connection)

        backend.scripts.clear()
        backend.will(act)
        headers = {"content-type": "application/json", **headers}
        found.append(await stage.client.post("/v1/chat/completions", content=body, headers=headers))
        assert ways == [0 if headers.keys() & LONG_WAY.keys() else 1]
    return found[0], found[1]


@pytest.mark.parametrize(
    "asked",
    [
        PINNED,
        {**PINNED, "max_tokens": 5, "temperature": 0.2, "stop": ["\n"], "stream": False},
        {**PINNED, "max_completion_tokens": 3, "max_tokens": 900},
        {**PINNED, "messages": [{"role": "user", "content": 'say "model" é ✓ \u0000'}]},
    ],
    ids=["plain", "parameters", "two limits", "odd text"],
)
@pytest.mark.parametrize(
    "answer",
    [
        answer_of(),
        answer_of(model="another-name"),
        answer_of(model=None),
        answer_of(usage=None),
        answer_of(usage={}),
        answer_of(usage="much"),
        answer_of(usage={"prompt_tokens": 10, "completion_tokens": 4, "cost": 7}),
        answer_of(
            usage={"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}},
            timings={"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}},
        ),
        answer_of(meta={"model": "second"}, choices=[{"message": {"content": '"model": "x"'}}]),
    ],
    ids=[
        *("plain", "other name", "no name", "no usage", "empty usage", "odd usage", "costs"),
        *("usage twice", "name twice"),
    ],
)
async def test_a_named_model_is_answered_alike(
    stage: Stage, asked: dict[str, Any], answer: bytes
) -> None:
    long, short = await ask_both_ways(stage, stage.second, json.dumps(asked).encode(), answer)
    assert (short.status_code, kept(short.headers)) == (long.status_code, kept(long.headers))
    assert short.content == long.content
    first, second = stage.parts.ledger.recent
    assert same_row(second) == same_row(first)
    asks = stage.second.requests
    assert asks[-1].body == asks[-2].body


@pytest.mark.parametrize("name", ["auto", "auto:cheap", "openrouter/auto"])
async def test_a_choice_is_answered_alike_and_repeated_for_the_same_ask(
    stage: Stage, name: str
) -> None:
    body = json.dumps({**AUTO, "model": name}).encode()
    for _ in range(2):
        long, short = await ask_both_ways(stage, stage.first, body, completion())
        assert (short.status_code, kept(short.headers)) == (long.status_code, kept(long.headers))
        assert short.json() == long.json()
    rows = [same_row(row) for row in stage.parts.ledger.recent]
    assert rows == [rows[0]] * 4
    assert stage.first.requests[-1].body["model"] == "served-name"
    compared = stage.parts.metrics.exposition().decode()
    assert "thalamus_compared_requests_total 4.0" in compared


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"first","messages":[{"role":"user","content":"x"}],"model":"second"}',
        b'{"mod\\u0065l":"first","messages":[{"role":"user","content":"x"}],"model":"second"}',
    ],
    ids=["twice", "escaped"],
)
async def test_what_could_be_read_in_two_ways_reaches_the_backend_as_we_read_it(
    stage: Stage, body: bytes
) -> None:
    long, short = await ask_both_ways(stage, stage.second, body, answer_of())
    assert short.json() == long.json()
    for asked in stage.second.requests[-2:]:
        assert asked.body["model"] == "second"


@pytest.mark.parametrize(
    "change",
    [
        {"routing": {"objective": "cheap"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"logprobs": True},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"model": "auto:unheard-of"},
        {"max_tokens": -1},
        {"messages": []},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_is_out_of_the_ordinary_takes_the_long_way(
    stage: Stage, change: dict[str, Any]
) -> None:
    await ask_both_ways(stage, stage.second, json.dumps(PINNED).encode(), answer_of())
    seen: list[int] = []

    async def act(connection: Connection) -> None:
        seen.append(stage.parts.ledger.open_errands)
        await says(answer_of())(connection)

    stage.second.scripts.clear()
    stage.second.will(act)
    await stage.client.post("/v1/chat/completions", json={**PINNED, **change})
    assert seen in ([], [0])  # refused before a backend is asked, or asked on the long way


async def test_another_replica_answers_and_both_tries_are_told() -> None:
    async with scripted_backend() as twin, stage_with(twin.url) as stage:
        for backend in (stage.first, twin):  # a connection to each that idles
            backend.will(says(completion()), says(completion()))
        both = [stage.ask(model="first", temperature=0.1) for _ in range(2)]
        assert {answer.status_code for answer in await asyncio.gather(*both)} == {200}
        for backend in (stage.first, twin):
            backend.scripts.clear()
        stage.first.will(then_closes(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}"))
        twin.will(says(completion()))
        answer = await stage.ask(model="first")
        assert answer.status_code == 200
        assert answer.headers["x-routing-attempts"] == "2"
        assert stage.parts.ledger.recent[-1].attempts == 2
        await stage.census()


async def test_a_refusal_of_the_request_itself_stays_one(stage: Stage) -> None:
    body = json.dumps(PINNED).encode()
    refused = json_answer({"error": {"message": "too hot", "param": "temperature"}}, 400)
    long, short = await ask_both_ways(stage, stage.second, body, refused)
    assert (short.status_code, short.json()) == (long.status_code, long.json())
    assert short.status_code == 400
    assert kept(short.headers) == kept(long.headers)
    first, second = stage.parts.ledger.recent
    assert same_row(second) == same_row(first)


async def test_who_leaves_cancels_the_backend_and_is_accounted(stage: Stage) -> None:
    body = json.dumps(PINNED).encode()
    await ask_both_ways(stage, stage.second, body, answer_of())
    waiting = asyncio.Event()

    async def never(connection: Connection) -> None:
        assert stage.parts.ledger.open_errands == 1
        waiting.set()
        await connection.reader.read()

    stage.second.scripts.clear()
    stage.second.will(never)
    task = asyncio.create_task(stage.ask(**PINNED))
    await waiting.wait()
    task.cancel()
    await eventually(lambda: len(stage.parts.ledger.recent) == 3, 1.0)
    row = stage.parts.ledger.recent[-1]
    assert (row.outcome, row.model, row.attempts) == ("cancelled", "second", 1)
    assert stage.parts.ledger.open_errands == 0


async def test_a_request_that_outlives_the_drain_is_told_so() -> None:
    body = json.dumps(PINNED).encode()
    async with stage_with(answer_s=30) as stage:
        await ask_both_ways(stage, stage.second, body, answer_of())
        waiting = asyncio.Event()

        async def never(connection: Connection) -> None:
            waiting.set()
            await connection.reader.read()

        stage.second.scripts.clear()
        stage.second.will(never)
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        length = b"content-length: %d" % len(body)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + length + b"\r\n\r\n" + body
        )
        await waiting.wait()
        assert stage.parts.ledger.open_errands == 1
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"shutting down" in answer
    assert stage.parts.ledger.recent[-1].outcome == "cancelled"
    assert stage.parts.pipeline.admission.inflight == 0
    assert stage.parts.ledger.open_errands == 0


async def test_admission_holds_on_the_short_way_too() -> None:
    async with stage_with(extra={"server": {"max_inflight": 1, "drain_s": 1}}) as stage:
        body = json.dumps(PINNED).encode()
        stage.second.will(says(answer_of()))
        await stage.client.post("/v1/chat/completions", content=body, headers=LONG_WAY)
        go_on = asyncio.Event()

        async def slow(connection: Connection) -> None:
            await go_on.wait()
            await says(answer_of())(connection)

        stage.second.scripts.clear()
        stage.second.will(slow)
        first = asyncio.create_task(stage.ask(**PINNED))
        await eventually(lambda: stage.parts.pipeline.admission.inflight == 1)
        turned_away = await stage.ask(**PINNED)
        assert turned_away.status_code == 503
        go_on.set()
        await first
        await stage.census()


@pytest.mark.parametrize("name", ["second", "auto"])
async def test_a_key_is_held_to_its_limits_on_both_ways_alike(tmp_path: Path, name: str) -> None:
    file = KeyFile(tmp_path / "keys.db")
    policy = KeyPolicy(
        requests_per_minute=5, tokens_per_minute=50_000, budget_usd_per_day=1.0, concurrency=1
    )
    token, key = make_key("test", policy, time.time())
    file.add(key)
    auth = {"mode": "keys", "keys": str(file.path)}
    body = json.dumps({**PINNED, "model": name, "max_tokens": 20}).encode()
    async with stage_with(extra={"auth": auth}) as stage:
        stage.client.headers["authorization"] = f"Bearer {token}"
        backend = stage.second if name == "second" else stage.first
        long, short = await ask_both_ways(stage, backend, body, answer_of())
        assert short.content == long.content
        left = [answer.headers["x-ratelimit-remaining-requests"] for answer in (long, short)]
        assert left == ["4", "3"]
        rows = list(stage.parts.ledger.recent)
        assert same_row(rows[1]) == same_row(rows[0])
        assert rows[1].principal == key.id
        meter = stage.parts.door.authenticate(stage.client.headers).meter
        assert meter is not None
        (_, _, left_nanos), *_ = meter.budgets_left()
        assert left_nanos == 1_000_000_000 - sum(row.cost_nanos or 0 for row in rows)

        # An attempt that fails is let in once, not twice.
        backend.scripts.clear()
        backend.will(says(json_answer({"error": {"message": "no"}}, 400)))
        refused = await stage.client.post("/v1/chat/completions", content=body)
        assert refused.status_code == 400
        assert refused.headers["x-ratelimit-remaining-requests"] == "2"
        for _ in range(2):
            await stage.client.post("/v1/chat/completions", content=body)
        assert (await stage.client.post("/v1/chat/completions", content=body)).status_code == 429
        await stage.census()
