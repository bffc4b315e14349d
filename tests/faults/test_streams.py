"""Every stream that sent a 200 ends with exactly one terminal event, and it is the true one."""

from __future__ import annotations

import json

import pytest

from tests.fakes.backend import (
    DONE,
    END_OF_STREAM,
    STREAM_HEAD,
    USAGE,
    WHOLE,
    Act,
    chunked,
    event,
    says,
    streams,
    then_closes,
    then_hangs,
    then_resets,
)
from tests.faults.conftest import Stage

HALF = (STREAM_HEAD, chunked(event("a")))


def texts(events: list[str]) -> str:
    return "".join(
        choice["delta"]["content"]
        for data in events
        if data != "[DONE]"
        for choice in json.loads(data).get("choices", [])
    )


def is_error(data: str) -> bool:
    return data != "[DONE]" and "error" in json.loads(data)


async def test_a_good_stream_ends_with_done_and_hides_the_usage_nobody_asked_for(
    stage: Stage,
) -> None:
    stage.first.will(streams(*WHOLE))
    events = await stage.stream()
    assert texts(events) == "ab"
    assert events[-1] == "[DONE]"
    assert events.count("[DONE]") == 1
    assert not any("usage" in data for data in events)
    assert stage.first.requests[0].body["stream_options"] == {"include_usage": True}
    (row,) = stage.parts.ledger.recent
    assert (row.usage.prompt_tokens, row.usage.completion_tokens) == (10, 2)
    assert row.cost_nanos == 10 * 1_000 + 2 * 2_000
    assert row.outcome == "ok"


async def test_usage_that_was_asked_for_carries_its_cost_and_every_chunk_the_model(
    stage: Stage,
) -> None:
    stage.first.will(streams(*WHOLE))
    events = await stage.stream(stream_options={"include_usage": True})
    chunks = [json.loads(data) for data in events[:-1]]
    assert chunks[-1]["usage"] == {**USAGE, "cost": pytest.approx(14e-6)}
    assert {chunk["model"] for chunk in chunks} == {"first"}
    assert stage.first.requests[0].body["model"] == "served-name"


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (then_resets(*HALF), "reset"),
        (then_closes(*HALF), "closed in mid-chunk"),
        (says(*HALF, END_OF_STREAM), "ended without finish or [DONE]"),
        (then_hangs(*HALF), "silence"),
        (streams(event("a"), b"data: {broken\n\n", DONE), "no JSON"),
        (streams(event("a"), b"data: 7\n\n", DONE), "no object"),
        (streams(event("a"), b'data: {"model": "\xff"}\n\n', DONE), "no UTF-8"),
        (streams(event("a"), b'data: {"error": {"message": "boom"}}\n\n', DONE), "own error"),
        (streams(event("a"), b"data: " + b"x" * 2**21), "an event without end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_stream_that_breaks_off_ends_with_one_error_event(
    stage: Stage, act: Act, why: str
) -> None:
    stage.first.will(act)
    events = await stage.stream()
    assert texts(events[:-1]) == "a", why
    assert is_error(events[-1])
    assert sum(map(is_error, events)) == 1
    assert "[DONE]" not in events
    assert set(json.loads(events[-1])["error"]) == {"message", "type", "param", "code"}
    assert stage.second.requests == [], "nobody else is asked once the client has a byte"
    (row,) = stage.parts.ledger.recent
    assert (row.outcome, row.usage.is_estimated, row.usage.completion_tokens) == ("error", True, 1)


async def test_an_end_after_the_finish_reason_counts_as_complete(stage: Stage) -> None:
    stage.first.will(streams(event("a", finish="stop")))
    events = await stage.stream()
    assert [texts(events), events[-1]] == ["a", "[DONE]"]


async def test_what_follows_done_is_dropped_and_its_connection_not_used_again(
    stage: Stage,
) -> None:
    tail = says(STREAM_HEAD, chunked(event("a", finish="stop"), DONE, event("late"), DONE))
    stage.first.will(tail, streams(*WHOLE))
    events = await stage.stream()
    assert texts(events) == "a"
    assert events.count("[DONE]") == 1
    assert texts(await stage.stream()) == "ab"


async def test_comments_ids_and_empty_events_never_reach_the_client(stage: Stage) -> None:
    noise = b": ping\n\nid: 7\nretry: 10\n\ndata:\n\nevent: ping\n\n"
    stage.first.will(streams(noise + event("a"), noise, event("b", finish="stop"), DONE))
    events = await stage.stream()
    assert texts(events) == "ab"
    assert all(events)


async def test_a_split_inside_a_character_changes_nothing(stage: Stage) -> None:
    whole = event("λ→∞", finish="stop").replace(b"\\u03bb", "λ".encode()) + DONE
    stage.first.will(says(STREAM_HEAD, *(chunked(bytes([b])) for b in whole), END_OF_STREAM))
    assert texts(await stage.stream()) == "λ→∞"
