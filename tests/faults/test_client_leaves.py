"""A client that leaves stops the backend within a second, whatever the phase, and is accounted."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.fakes.backend import (
    STREAM_HEAD,
    Connection,
    chunked,
    completion,
    event,
    says,
    then_hangs,
)
from tests.faults.conftest import ASK, Stage, eventually


async def send(
    stage: Stage, *, is_stream: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    body = json.dumps({**ASK, "stream": is_stream}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await writer.drain()
    return reader, writer


async def expect_cancelled(stage: Stage) -> None:
    await asyncio.wait_for(stage.first.requests[0].left.wait(), 1)
    await eventually(lambda: len(stage.parts.ledger.recent) == 1)
    (row,) = stage.parts.ledger.recent
    assert row.outcome == "cancelled"
    assert stage.second.requests == []


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_before_the_answer_begins(stage: Stage, *, is_stream: bool) -> None:
    stage.first.will(then_hangs())
    _, writer = await send(stage, is_stream=is_stream)
    await eventually(lambda: len(stage.first.requests) == 1)
    writer.close()
    await expect_cancelled(stage)


async def test_in_the_middle_of_a_stream(stage: Stage) -> None:
    stage.first.will(then_hangs(STREAM_HEAD, chunked(event("a"))))
    reader, writer = await send(stage, is_stream=True)
    await reader.readuntil(b'"a"')
    writer.close()
    await expect_cancelled(stage)
    (row,) = stage.parts.ledger.recent
    assert (row.usage.completion_tokens, row.usage.is_estimated) == (1, True)


async def test_while_sending_its_request(stage: Stage) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\n\r\n{")
    await writer.drain()
    writer.close()
    await stage.census()
    assert stage.first.requests == []
    assert len(stage.parts.ledger.recent) == 0


async def test_a_client_that_never_reads_is_given_up(stage: Stage) -> None:
    async def flood(connection: Connection) -> None:
        await connection.write(STREAM_HEAD)
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        try:
            while not leaving.done():
                await connection.write(chunked(event("x" * 60_000)))
        except ConnectionError:
            pass
        connection.request.left.set()
        await leaving

    stage.first.will(flood)
    _, writer = await send(stage, is_stream=True)
    await asyncio.wait_for(_left(stage), 10)
    await eventually(lambda: len(stage.parts.ledger.recent) == 1)
    assert stage.parts.ledger.recent[0].outcome == "cancelled"
    writer.close()


async def _left(stage: Stage) -> None:
    await eventually(lambda: len(stage.first.requests) == 1)
    await stage.first.requests[0].left.wait()


async def test_a_crowd_that_leaves_at_any_moment_leaves_nothing_behind(stage: Stage) -> None:
    async def slowly(connection: Connection) -> None:
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        for piece in (STREAM_HEAD, *(chunked(event("a")) for _ in range(50))):
            if leaving.done():
                break
            connection.writer.write(piece)
            await asyncio.wait({leaving}, timeout=0.002)
        await leaving

    async def visit(after_s: float) -> None:
        _, writer = await send(stage, is_stream=True)
        await asyncio.sleep(after_s)  # the fault itself: when this client leaves
        writer.close()

    stage.first.will(slowly)
    await asyncio.gather(*(visit(n / 500) for n in range(40)))
    await stage.census()
    rows = stage.parts.ledger.recent
    assert {row.outcome for row in rows} <= {"cancelled"}
    assert len({row.decision_id for row in rows}) == len(rows) >= len(stage.first.requests)
    async with asyncio.timeout(1):
        for request in stage.first.requests:
            await request.left.wait()
    stage.first.scripts.clear()
    stage.first.will(says(completion()))
    assert (await stage.ask()).headers["x-routing-model"] == "first"
