"""What a backend may answer wrongly, and the same faults over the other transport and other APIs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.fakes.backend import (
    DONE,
    END_OF_STREAM,
    STREAM_HEAD,
    WHOLE,
    Act,
    Connection,
    chunked,
    completion,
    event,
    json_answer,
    says,
    streams,
    then_closes,
    then_hangs,
    then_resets,
)
from tests.fakes.oracle import answers_well
from tests.faults.conftest import Stage, eventually, stage_with
from tests.faults.test_client_leaves import expect_cancelled, send


@pytest.mark.parametrize("status", [201, 202, 204, 205, 206, 301, 303, 304, 307, 308, 305])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_any_success_but_200_and_any_redirect_is_a_502(
    stage: Stage, status: int, *, is_stream: bool
) -> None:
    empty = b"HTTP/1.1 %d X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n" % status
    stage.first.will(then_closes(empty))
    answer = await stage.ask(model="first", stream=is_stream)
    assert answer.status_code == 502
    assert len(stage.first.requests) == 1
    assert stage.second.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
async def test_the_statuses_that_are_tried_elsewhere_are_exactly_these(
    stage: Stage, status: int
) -> None:
    stage.first.will(says(json_answer({"error": {"message": "no"}}, status)))
    stage.second.will(says(completion()))
    assert (await stage.ask()).headers["x-routing-model"] == "second"
    assert len(stage.first.requests) == len(stage.second.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 408, 409, 413, 422, 501, 505])
async def test_other_statuses_are_never_retried(stage: Stage, status: int) -> None:
    stage.first.will(says(json_answer({"error": {"message": "no"}}, status)))
    answer = await stage.ask()
    assert answer.status_code == (502 if status in {401, 403} else status)
    assert stage.second.requests == []


async def test_an_error_event_is_told_once_and_nothing_after_it(stage: Stage) -> None:
    boom = b'data: {"error": {"message": "boom", "code": 500}}\n\n'
    stage.first.will(streams(event("a"), boom, boom, event("b"), DONE))
    events = await stage.stream()
    assert len(events) == 2
    assert json.loads(events[1])["error"]["message"] == "boom"


async def test_bytes_after_done_end_the_connection_not_the_answer(stage: Stage) -> None:
    stage.first.will(streams(event("a", finish="stop"), DONE, event("evil"), DONE), streams(*WHOLE))
    events = await stage.stream()
    assert events.count("[DONE]") == 1
    assert "evil" not in "".join(events)
    assert (await stage.stream())[-1] == "[DONE]"


async def test_an_event_of_64_mb_is_cut_off_early(stage: Stage) -> None:
    written = 0

    async def floods(connection: Connection) -> None:
        nonlocal written
        await connection.write(STREAM_HEAD + chunked(event("a")) + b"4000000\r\ndata: ")
        try:
            for _ in range(1024):
                await connection.write(b"x" * 65536)
                written += 65536
        except ConnectionError:
            pass
        connection.request.left.set()

    stage.first.will(floods)
    events = await stage.stream()
    assert "larger than 1 MiB" in events[-1]
    await asyncio.wait_for(stage.first.requests[0].left.wait(), 2)
    # What is on its way in the sockets comes on top of the mebibyte that is read.
    assert written < 32 * 2**20


async def test_a_hundred_thousand_tiny_events_at_once_let_others_through(stage: Stage) -> None:
    """While one stream's backlog is worked off, another request is answered before it ends."""
    order: list[str] = []
    crowd = b"data: {}\n\n" * 100_000
    stage.first.will(streams(event("a"), crowd, event("b", finish="stop"), DONE))
    stage.second.will(says(completion()))

    async def much() -> None:
        await stage.stream(model="first")
        order.append("much")

    async def little() -> None:
        await eventually(lambda: len(stage.first.requests) == 1)
        await stage.ask(model="second")
        order.append("little")

    await asyncio.gather(much(), little())
    assert order == ["little", "much"]


async def test_a_client_that_only_closes_its_sending_half_counts_as_gone(stage: Stage) -> None:
    """FIN is all that a client who left sends, too: stopping the backend in time comes first."""
    stage.first.will(then_hangs())
    _, writer = await send(stage, is_stream=True)
    await eventually(lambda: len(stage.first.requests) == 1)
    writer.write_eof()
    await expect_cancelled(stage)
    writer.close()


@pytest.mark.parametrize("phase", ["before the head", "after the head", "in the body"])
async def test_a_client_that_leaves_a_whole_answer_stops_the_backend(
    stage: Stage, phase: str
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
    said = {"before the head": b"", "after the head": head, "in the body": head + b'{"id":'}
    stage.first.will(then_hangs(said[phase]))
    _, writer = await send(stage, is_stream=False)
    await eventually(lambda: len(stage.first.requests) == 1)
    writer.close()
    await expect_cancelled(stage)


# the other transport


@pytest.fixture
async def full_client() -> AsyncIterator[Stage]:
    """The first backend is reached by httpx2 instead of the lean client."""
    limits = {"first_token_s": 0.5, "answer_s": 0.5, "idle_s": 0.3, "connect_s": 0.5}
    async with stage_with(backend={"transport": "httpx2"}, **limits) as made:
        made.second.will(says(completion()))
        yield made
        await made.census()


async def test_httpx2_streams_and_answers(full_client: Stage) -> None:
    full_client.first.will(streams(*WHOLE), says(completion("Hello")))
    assert (await full_client.stream())[-1] == "[DONE]"
    answer = await full_client.ask()
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert full_client.second.requests == []


@pytest.mark.parametrize(
    "act",
    [
        then_resets(),
        then_closes(b"HTTP/1.1 200 OK\r\ncontent-ty"),
        then_hangs(),
        says(b"220 mail.example ESMTP\r\n"),
        says(json_answer({"error": "busy"}, 429)),
        says(json_answer({"error": "down"}, 503)),
    ],
    ids=["reset", "half a head", "silence", "another protocol", "429", "503"],
)
async def test_httpx2_fails_over_like_the_lean_client(full_client: Stage, act: Act) -> None:
    full_client.first.will(act)
    answer = await full_client.ask()
    assert (answer.status_code, answer.headers["x-routing-model"]) == (200, "second")


@pytest.mark.parametrize(
    "act",
    [
        then_resets(STREAM_HEAD, chunked(event("a"))),
        then_closes(STREAM_HEAD, chunked(event("a"))),
        then_hangs(STREAM_HEAD, chunked(event("a"))),
        says(STREAM_HEAD, chunked(event("a")), END_OF_STREAM),
    ],
    ids=["reset", "closed", "silence", "ended"],
)
async def test_httpx2_ends_a_broken_stream_with_one_error(full_client: Stage, act: Act) -> None:
    full_client.first.will(act)
    events = await full_client.stream()
    assert len(events) == 2
    assert '"error"' in events[1]


async def test_httpx2_lets_go_of_the_backend_when_the_client_leaves(full_client: Stage) -> None:
    full_client.first.will(then_hangs(STREAM_HEAD, chunked(event("a"))))
    reader, writer = await send(full_client, is_stream=True)
    await reader.readuntil(b'"a"')
    writer.close()
    await expect_cancelled(full_client)


# other APIs take the same path

PATHS = {
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "act",
    [then_resets(), then_hangs(), says(json_answer({"error": "x"}, 503))],
    ids=["reset", "silence", "503"],
)
async def test_every_api_fails_over(stage: Stage, path: str, act: Act, *, is_stream: bool) -> None:
    stage.first.will(act)
    stage.second.will(answers_well)
    body = {"model": "auto", "stream": is_stream, **PATHS[path]}
    answer = await stage.client.post(path, json=body)
    assert answer.status_code == 200
    assert answer.headers["x-routing-fallback-from"] == "first"
    (row,) = stage.parts.ledger.recent
    assert (row.outcome, row.attempts, row.usage.completion_tokens) == ("ok", 2, 2)
