"""A stream on the short way: the same events, headers and row as on the long one, the same ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.test_express import LONG_WAY, OWN, answer_of, same_row
from tests.fakes.backend import (
    DONE,
    END_OF_STREAM,
    STREAM_HEAD,
    USAGE,
    WHOLE,
    Act,
    Connection,
    chunked,
    event,
    json_answer,
    says,
    scripted_backend,
    streams,
    then_closes,
    then_hangs,
    then_resets,
)
from tests.faults.conftest import Stage, eventually, stage_with

ASKED = {"model": "second", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
#: Of the row, what a clock tells.
TIMES = ("ttft_ms",)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with stage_with(first_token_s=0.5, answer_s=0.5, idle_s=0.3, send_s=0.5) as made:
        yield made
        await made.census()


def row_of(stage: Stage, at: int = -1) -> dict[str, Any]:
    row = same_row(stage.parts.ledger.recent[at])
    return {name: value for name, value in row.items() if name not in TIMES}


async def leave_an_idle_connection(stage: Stage) -> None:
    stage.second.scripts.clear()
    stage.second.will(says(answer_of()))
    await stage.ask(model="second")
    stage.second.scripts.clear()


async def ask_both_ways(stage: Stage, act: Act, body: bytes) -> tuple[Any, Any]:
    """What the long way and the short way answer, in this order."""
    found = []
    for headers in (LONG_WAY, {}):
        await leave_an_idle_connection(stage)
        ways: list[int] = []

        async def acts(connection: Connection, ways: list[int] = ways) -> None:
            ways.append(stage.parts.ledger.open_errands)
            await act(connection)

        stage.second.will(acts)
        headers = {"content-type": "application/json", **headers}
        found.append(await stage.client.post("/v1/chat/completions", content=body, headers=headers))
        assert ways[0] == (0 if headers.keys() & LONG_WAY.keys() else 1)
    return found[0], found[1]


def told(answer: Any) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    return answer.status_code, headers, answer.content


def one_by_one(*events: bytes) -> Act:
    """Each event a chunk of its own, and in a packet of its own."""

    async def act(connection: Connection) -> None:
        await connection.write(STREAM_HEAD)
        for one in events:
            await connection.write(chunked(one))
            await asyncio.sleep(0.003)
        await connection.write(END_OF_STREAM)

    return act


MANY = (
    *(event(words) for words in ("", "a", " b", 'say "x"', "é ✓", "\n", "c", "\u0000", " d")),
    event("e", finish="stop"),
    event(usage=USAGE),
    DONE,
)


@pytest.mark.parametrize(
    "act",
    [
        streams(*WHOLE),
        one_by_one(*WHOLE),
        one_by_one(*MANY),
        streams(event("a"), event("b", finish="stop"), DONE),
        one_by_one(
            *(event(f"w{i}", model="second") for i in range(9)), event("", finish="stop"), DONE
        ),
        one_by_one(event("a"), event("b", finish="stop")),
    ],
    ids=["at once", "one by one", "odd words", "no usage", "by its own name", "no end"],
)
@pytest.mark.parametrize(
    "more",
    [{}, {"stream_options": {"include_usage": True}}, {"stream_options": {}}, {"max_tokens": 9}],
    ids=["plain", "with usage", "no options", "limited"],
)
async def test_a_stream_is_the_same_on_both_ways(
    stage: Stage, act: Act, more: dict[str, Any]
) -> None:
    long, short = await ask_both_ways(stage, act, json.dumps({**ASKED, **more}).encode() + b" \n")
    assert told(short) == told(long)
    assert short.content.endswith(DONE)
    assert row_of(stage) == row_of(stage, -3)
    assert stage.parts.ledger.recent[-1].ttft_ms is not None
    asks = stage.second.requests
    assert asks[-1].body == asks[-3].body
    assert asks[-1].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "act",
    [
        then_resets(STREAM_HEAD, chunked(event("a"))),
        then_closes(STREAM_HEAD, chunked(event("a"), event("b")), b"5\r\nab"),
        then_hangs(STREAM_HEAD, chunked(event("a"))),
        streams(event("a"), b"data: {no json\n\n"),
        streams(event("a"), b'data: {"error": {"message": "broke", "code": 500}}\n\n'),
        one_by_one(event("a"), event("b"), b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'),
        streams(event("a"), event("b")),
    ],
    ids=["reset", "cut", "hangs", "no json", "error", "no text", "ends early"],
)
async def test_a_stream_that_breaks_off_ends_alike(stage: Stage, act: Act) -> None:
    long, short = await ask_both_ways(stage, act, json.dumps(ASKED).encode())
    assert told(short) == told(long)
    assert b'"error"' in short.content
    assert b"[DONE]" not in short.content
    assert row_of(stage) == row_of(stage, -3)
    assert stage.parts.ledger.recent[-1].outcome == "error"
    stage.parts.catalog.models["second"].backends[0].health.probe(answered=True)


@pytest.mark.parametrize(
    "act",
    [
        streams(b'data: {"error": {"message": "no"}}\n\n'),
        streams(b"data: {no json\n\n"),
        streams(),
        then_closes(STREAM_HEAD),
        then_hangs(STREAM_HEAD),
        says(json_answer({"error": {"message": "full"}}, 503)),
        says(answer_of()),
    ],
    ids=["error", "no json", "empty", "closes", "hangs", "full", "no stream"],
)
async def test_before_the_first_event_another_backend_answers(act: Act) -> None:
    async with scripted_backend() as twin, stage_with(twin.url, first_token_s=0.3) as stage:
        for backend in (stage.first, twin):  # a connection to each that idles
            backend.will(says(answer_of()), says(answer_of()))
        await asyncio.gather(*(stage.ask(model="first", temperature=0.1) for _ in range(2)))
        for backend in (stage.first, twin):
            backend.scripts.clear()
        stage.first.will(act)
        twin.will(streams(*WHOLE))
        answer = await stage.ask(**{**ASKED, "model": "first"})
        assert answer.content.endswith(DONE)
        assert b"error" not in answer.content
        row = stage.parts.ledger.recent[-1]
        assert row.outcome == "ok"
        assert answer.headers["x-routing-attempts"] == str(row.attempts)
        await stage.census()


async def test_who_leaves_in_the_midst_cancels_the_backend_and_is_accounted(stage: Stage) -> None:
    await leave_an_idle_connection(stage)
    stage.second.will(then_hangs(STREAM_HEAD, chunked(event("a"), event("b"))))
    async with stage.client.stream("POST", "/v1/chat/completions", json=ASKED) as answer:
        async for _ in answer.aiter_raw():
            assert stage.parts.ledger.open_errands == 1
            break
    await asyncio.wait_for(stage.second.requests[-1].left.wait(), 1.0)
    await eventually(lambda: stage.parts.ledger.open_errands == 0)
    row = stage.parts.ledger.recent[-1]
    assert (row.outcome, row.usage.completion_tokens, row.usage.is_estimated) == (
        "cancelled",
        2,
        True,
    )


async def test_a_client_that_does_not_read_is_let_go(stage: Stage) -> None:
    await leave_an_idle_connection(stage)

    async def floods(connection: Connection) -> None:
        await connection.write(STREAM_HEAD)
        for _ in range(2_000):
            await connection.write(chunked(event("x" * 4_000)))
        await connection.wait_until_client_leaves()

    stage.second.will(floods)
    body = json.dumps(ASKED).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    await eventually(lambda: len(stage.parts.ledger.recent) == 2, 3.0)
    assert stage.parts.ledger.recent[-1].outcome == "cancelled"
    writer.close()
    assert await reader.read()


async def test_a_stream_that_outlives_the_drain_is_told_so() -> None:
    async with stage_with(idle_s=30) as stage:
        await leave_an_idle_connection(stage)
        stage.second.will(then_hangs(STREAM_HEAD, chunked(event("a"))))
        body = json.dumps(ASKED).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await reader.readuntil(b'"a"')
        assert stage.parts.ledger.open_errands == 1
    rest = await reader.read()
    writer.close()
    assert b"shutting down" in rest
    assert rest.endswith(END_OF_STREAM)
    assert stage.parts.ledger.recent[-1].outcome == "cancelled"
    assert stage.parts.ledger.open_errands == 0


@pytest.mark.parametrize(
    "setting",
    [{"hedging": {"share": 0.1}}, {}],
    ids=["hedged", "resumed"],
)
async def test_what_needs_more_than_one_exchange_takes_the_long_way(
    setting: dict[str, Any],
) -> None:
    second = {} if setting else {"resume": True}
    async with stage_with(extra=setting, second=second) as stage:
        await leave_an_idle_connection(stage)
        seen: list[int] = []

        async def act(connection: Connection) -> None:
            seen.append(stage.parts.ledger.open_errands)
            await streams(*WHOLE)(connection)

        stage.second.will(act)
        assert (await stage.ask(**ASKED)).content.endswith(DONE)
        assert seen == [0]
        await stage.census()
