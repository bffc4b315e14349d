"""What a client can do to its connection: be slow, send too much, not read, ask many at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator

import pytest

from gateway.server.http_protocol import MAX_HEAD_BYTES, MAX_HEADERS
from tests.fakes.backend import completion, event, says, streams
from tests.faults.conftest import ASK, Stage, eventually, stage_with

BODY = json.dumps(ASK).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
REQUEST = HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)

LAST = REQUEST.replace(b"host: x", b"host: x\r\nconnection: close")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with stage_with(receive_s=0.3, send_s=0.5) as made:
        made.first.will(says(completion()))
        yield made
        await made.census()


async def answers(stage: Stage, data: bytes) -> bytes:
    """Send bytes as they are; return everything until the gateway closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(data)
    try:
        async with asyncio.timeout(3):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "begun", [b"P", HEAD, HEAD + b"content-length: 99\r\n\r\n{"], ids=["line", "head", "body"]
)
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/models"], ids=["data", "control"])
async def test_a_request_that_does_not_arrive_in_time_is_let_go(
    stage: Stage, begun: bytes, path: bytes
) -> None:
    answer = await answers(stage, begun.replace(b"/v1/chat/completions", path))
    if b"{" in begun and path == b"/v1/models":
        return  # the application had its turn already and refused the method
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
    assert stage.first.requests == []


async def test_a_request_in_many_pieces_is_served_within_the_time(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    for place in range(0, len(REQUEST), 40):
        writer.write(REQUEST[place : place + 40])
        await writer.drain()
        await asyncio.sleep(0.001)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"x: " + b"a" * (MAX_HEAD_BYTES + 1), b"431"),
        (b"\r\n".join(b"x-%d: 1" % n for n in range(MAX_HEADERS + 1)), b"431"),
        (b"no colon", b"400"),
        (b"content-length: 1\r\ncontent-length: 2", b"400"),
        (b"content-length: 1\r\ntransfer-encoding: chunked", b"400"),
    ],
    ids=["bytes", "number", "syntax", "two lengths", "length and chunks"],
)
async def test_headers_beyond_bounds_end_the_connection(
    stage: Stage, headers: bytes, status: bytes
) -> None:
    answer = await answers(stage, HEAD + headers + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'"error"' in answer
    assert stage.first.requests == []


async def test_headers_without_end_are_cut_off(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(HEAD)
    for _ in range(2 * MAX_HEAD_BYTES // 1024):
        writer.write(b"x: " + b"a" * 1024 + b"\r\n")
    assert (await reader.readline()).split()[1] in {b"431", b"400"}
    writer.close()


async def test_requests_sent_at_once_are_answered_in_their_order(stage: Stage) -> None:
    stage.first.scripts.clear()
    stage.first.will(says(completion("one")), says(completion("two")))
    unasked = REQUEST.replace(b"application/json", b"text/plain")
    answer = await answers(stage, REQUEST + unasked + LAST)
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", answer)
    assert statuses == [b"200", b"415", b"200"]
    assert answer.index(b"one") < answer.index(b"two")


async def test_many_refusals_at_once_do_not_pile_up(stage: Stage) -> None:
    count = 2_000
    refused = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n"
        b"content-type: a/b\r\ncontent-length: 0\r\n\r\n"
    )
    answer = await answers(stage, refused * count + LAST)
    assert answer.count(b" 415 ") == count
    assert answer.count(b" 200 OK") == 1


async def test_a_refused_body_is_read_past_and_the_connection_serves_on(stage: Stage) -> None:
    refused = REQUEST.replace(b"application/json", b"text/plain")
    answer = await answers(stage, refused + LAST)
    assert answer.count(b"HTTP/1.1 415") == 1
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(stage: Stage) -> None:
    stage.first.scripts.clear()
    stage.first.will(streams(event("a"), event("b", finish="stop"), b"data: [DONE]\n\n"))
    body = json.dumps({**ASK, "stream": True}).encode()
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"content-length: %d\r\n\r\n" % len(body)
    head_of_answer, _, rest = (await answers(stage, head + body)).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head_of_answer
    assert rest.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_a_body_announced_with_expect_is_asked_for(stage: Stage) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(BODY))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_head_gets_no_body(stage: Stage) -> None:
    head = b"HEAD /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await answers(stage, head)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_a_whole_answer_that_nobody_reads_is_given_up(stage: Stage) -> None:
    stage.first.scripts.clear()
    stage.first.will(says(completion("x" * 20_000_000)))
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port, limit=1024)
    writer.write(REQUEST)
    await eventually(lambda: len(stage.parts.ledger.recent) == 1, 10)
    assert stage.parts.ledger.recent[0].outcome == "cancelled"
    with contextlib.suppress(ConnectionError):
        assert len(await reader.read()) < 20_000_000
    writer.close()


async def test_heads_said_again_and_heads_that_are_not_quite_the_same(stage: Stage) -> None:
    """One kept connection: what was read of a head holds for the same bytes, and for no others."""
    stage.first.scripts.clear()
    stage.first.will(says(completion()))
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)

    def said(text: str, more: bytes = b"") -> bytes:
        body = json.dumps({**ASK, "messages": [{"role": "user", "content": text}]}).encode()
        return HEAD + more + b"content-length: %d\r\n\r\n%b" % (len(body), body)

    async def heard() -> tuple[bytes, dict[str, object]]:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        return head, json.loads(await reader.readexactly(length))

    async def ask(*pieces: bytes) -> bytes:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        head, _ = await heard()
        return head.partition(b"\r\n")[0]

    asked = []
    for text in ("one", "and another one", "x" * 5_000, "one"):
        assert await ask(said(text)) == b"HTTP/1.1 200 OK"
        asked.append(text)
    whole = said("in pieces")
    assert await ask(whole[:40], whole[40:-5], whole[-5:]) == b"HTTP/1.1 200 OK"
    assert await ask(said("with a flag", b"x-routing-objective: cheap\r\n")) == b"HTTP/1.1 200 OK"
    assert await ask(said("again")) == b"HTTP/1.1 200 OK"
    writer.write(said("two") + said("at once"))
    assert [(await heard())[0][:15] for _ in range(2)] == [b"HTTP/1.1 200 OK"] * 2
    asked += ["in pieces", "with a flag", "again", "two", "at once"]
    assert await ask(said("before"), said("")) == b"HTTP/1.1 200 OK"
    await heard()
    texts = [r.body["messages"][0]["content"] for r in stage.first.requests]
    assert texts == [*asked, "before", ""]

    malformed = said("x").replace(b"content-length: ", b"content-length: +")
    writer.write(malformed)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400")
    writer.close()
