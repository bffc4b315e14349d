"""A stream that breaks off is continued by a replica: one text, one id, one end, one account of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.backend import ScriptedBackend, completion, says, scripted_backend
from tests.fakes.collector import fake_collector
from tests.fakes.writer import CUTS, PROMPT_TOKENS, TEXT, TOKENS, Writer
from tests.faults.conftest import Stage, eventually, stage_with

COLD: dict[str, Any] = {"model": "first", "temperature": 0}


@dataclass
class Replicas:
    """Model ``first`` at three backends, asked in this order."""

    stage: Stage
    others: tuple[ScriptedBackend, ScriptedBackend]

    def write(self, *writers: Writer) -> None:
        for backend, writer in zip((self.stage.first, *self.others), writers, strict=False):
            backend.scripts.clear()
            backend.will(writer)


@asynccontextmanager
async def replicas(
    *, resume: bool = True, extra: dict[str, Any] | None = None, **timeouts: float
) -> AsyncIterator[Replicas]:
    limits = {"first_token_s": 2.0, "idle_s": 0.4, **timeouts}
    async with (
        scripted_backend() as second,
        scripted_backend() as third,
        scripted_backend() as first,
    ):
        backends = [{"url": backend.url} for backend in (first, second, third)]
        model = {"backends": backends, "balance": "listed", "resume": resume}
        async with stage_with(first_model=model, extra=extra, **limits) as stage:
            stage.first = first
            for backend in (first, second, third, stage.second):
                backend.will(says(completion("nobody should be asked this")))
            yield Replicas(stage, (second, third))
            await stage.census()


async def events_of(stage: Stage, **fields: Any) -> tuple[list[Any], list[str]]:
    """The data of every event, and the comments between them."""
    answer = await stage.ask(stream=True, **{**COLD, **fields})
    assert answer.status_code == 200, answer.text
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    data = [b.removeprefix("data: ") for b in blocks if b.startswith("data: ")]
    comments = [b for b in blocks if b.startswith(":")]
    assert len(data) + len(comments) == len(blocks)
    return [d if d == "[DONE]" else json.loads(d) for d in data], comments


def text_of(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if event != "[DONE]"
        for choice in event.get("choices", [])
    )


def expect_one_stream(events: list[Any]) -> None:
    """As if one backend had written it all."""
    assert text_of(events) == TEXT
    assert events[-1] == "[DONE]"
    assert events.count("[DONE]") == 1
    chunks = events[:-1]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-one"}
    assert {chunk["created"] for chunk in chunks} == {len("one")}
    assert {chunk["model"] for chunk in chunks} == {"first"}
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [c["delta"].get("role") for c in choices] == ["assistant"] + [None] * (len(choices) - 1)
    assert [c["finish_reason"] for c in choices] == [None] * (len(choices) - 1) + ["stop"]


@pytest.mark.parametrize("then", CUTS)
@pytest.mark.parametrize("after", [0, 1, 3, 6, 7, 10, 12, len(TOKENS) - 1])
async def test_another_replica_goes_on_wherever_and_however_it_is_cut(
    after: int, then: str
) -> None:
    async with replicas() as pool:
        one, two = Writer("one", after, then), Writer("two")
        pool.write(one, two)
        asks = {"include_usage": True}
        events, comments = await events_of(pool.stage, stream_options=asks, max_tokens=50)
        expect_one_stream(events)
        assert len(comments) == 1
        delivered = "".join(TOKENS[:after])
        (asked,) = two.asked
        assert asked["max_tokens"] == 50 - after
        if delivered:
            assert asked["messages"][-1] == {"role": "assistant", "content": delivered.rstrip()}
            written = after + -(-len(TEXT[len(delivered.rstrip()) :]) // 3)
        else:  # nothing to go on with: it is asked as the first one was
            assert "continue_final_message" not in asked
            written = len(TOKENS)
        usages = [event["usage"] for event in events[:-1] if event.get("usage")]
        assert len(usages) == 1
        assert usages[0]["prompt_tokens"] == PROMPT_TOKENS
        assert usages[0]["completion_tokens"] == written
        assert usages[0]["total_tokens"] == PROMPT_TOKENS + written
        assert pool.stage.second.requests == []
        (row,) = pool.stage.parts.ledger.recent
        assert (row.outcome, row.attempts, row.resumes, row.spent) == ("ok", 2, 1, ())
        assert row.usage.is_estimated is False
        assert (row.usage.prompt_tokens, row.usage.completion_tokens) == (PROMPT_TOKENS, written)
        assert row.cost_nanos == PROMPT_TOKENS * 1_000 + written * 2_000
        assert usages[0]["cost"] == pytest.approx(row.cost_nanos / 1e9)
        metrics = (await pool.stage.client.get("/metrics")).text
        assert 'stream_resumes_total{model="first",result="continued"} 1' in metrics


async def test_usage_that_nobody_asked_for_is_hidden_and_counted_all_the_same() -> None:
    async with replicas() as pool:
        pool.write(Writer("one", 4), Writer("two"))
        events, _ = await events_of(pool.stage)
        expect_one_stream(events)
        assert not any("usage" in event for event in events[:-1])
        (row,) = pool.stage.parts.ledger.recent
        assert row.usage.completion_tokens > 4
        assert not row.usage.is_estimated


async def test_the_second_is_cut_too_and_a_third_goes_on() -> None:
    async with replicas() as pool:
        pool.write(Writer("one", 4), Writer("two", 2, "half character"), Writer("three"))
        events, comments = await events_of(pool.stage)
        expect_one_stream(events)
        assert len(comments) == 2
        (row,) = pool.stage.parts.ledger.recent
        assert (row.outcome, row.attempts, row.resumes) == ("ok", 3, 2)
        delivered = TEXT[: len("".join(TOKENS[:4])) + 6].rstrip()
        assert row.usage.completion_tokens == 4 + 2 + -(-(len(TEXT) - len(delivered)) // 3)


async def test_when_all_are_cut_the_stream_ends_with_one_error_and_what_was_written_is_paid() -> (
    None
):
    async with replicas() as pool:
        pool.write(Writer("one", 4), Writer("two", 2), Writer("three", 1))
        events, _ = await events_of(pool.stage)
        assert "error" in events[-1]
        assert sum("error" in event for event in events) == 1
        assert "[DONE]" not in events
        assert TEXT.startswith(text_of(events[:-1]))
        (row,) = pool.stage.parts.ledger.recent
        assert (row.outcome, row.resumes, row.usage.completion_tokens) == ("error", 2, 7)
        assert pool.stage.second.requests == [], "another model would not go on with this text"


async def test_replicas_that_are_gone_leave_the_error_of_the_first() -> None:
    async with replicas() as pool:
        pool.write(Writer("one", 4))
        for other in pool.others:
            await other.stop()
        events, _ = await events_of(pool.stage)
        assert text_of(events[:-1]) == "".join(TOKENS[:4])
        assert "broke off" in events[-1]["error"]["message"]
        metrics = (await pool.stage.client.get("/metrics")).text
        assert 'stream_resumes_total{model="first",result="failed"} 1' in metrics


async def test_a_backend_that_does_not_count_is_counted_by_its_events_and_marked() -> None:
    async with replicas() as pool:
        pool.write(Writer("one", 4, counts=False), Writer("two", counts=False))
        events, _ = await events_of(pool.stage)
        expect_one_stream(events)
        (row,) = pool.stage.parts.ledger.recent
        left = -(-(len(TEXT) - len("".join(TOKENS[:4]))) // 3)
        assert row.usage.is_estimated
        assert row.usage.completion_tokens == 4 + left


async def test_counts_with_every_event_are_shown_to_who_asks_for_them() -> None:
    async with replicas() as pool:
        pool.write(Writer("one", 4), Writer("two"))
        asks = {"include_usage": True, "continuous_usage_stats": True}
        events, _ = await events_of(pool.stage, stream_options=asks)
        expect_one_stream(events)
        counts = [event["usage"]["completion_tokens"] for event in events[:-1]]
        assert counts == sorted(counts)
        assert {event["usage"]["prompt_tokens"] for event in events[:-1]} == {PROMPT_TOKENS}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
PREFILLED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.7},
        {"temperature": None},
        {"tools": [TOOL]},
        {"logprobs": True},
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"presence_penalty": 0.5},
        {"some_engines_own_field": 1},
        {"messages": PREFILLED},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_what_cannot_be_continued_ends_with_an_error(fields: dict[str, Any]) -> None:
    async with replicas() as pool:
        one, two = Writer("one", 4), Writer("two")
        pool.write(one, two)
        events, _ = await events_of(pool.stage, **fields)
        assert "error" in events[-1]
        assert "continuous_usage_stats" not in one.asked[0]["stream_options"]
        assert two.asked == []


@pytest.mark.parametrize(
    "delta",
    [{"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, {"reasoning": "I think"}],
    ids=lambda delta: next(iter(delta)),
)
async def test_an_answer_that_is_more_than_text_is_not_continued(delta: dict[str, Any]) -> None:
    async with replicas() as pool:
        two = Writer("two")
        pool.write(Writer("one", 4, delta=delta), two)
        events, _ = await events_of(pool.stage)
        assert "error" in events[-1]
        assert two.asked == []


async def test_what_the_backend_refuses_is_not_asked_elsewhere() -> None:
    async with replicas() as pool:
        two = Writer("two")
        pool.write(Writer("one", 4, "refusal"), two)
        events, _ = await events_of(pool.stage)
        assert events[-1]["error"]["message"] == "EngineCore died"
        assert two.asked == []


async def test_off_by_default() -> None:
    async with replicas(resume=False) as pool:
        one, two = Writer("one", 4), Writer("two")
        pool.write(one, two)
        events, _ = await events_of(pool.stage)
        assert "error" in events[-1]
        assert two.asked == []


async def test_the_time_for_a_whole_answer_goes_on_from_its_beginning() -> None:
    async with replicas(total_s=0.5, idle_s=0.4) as pool:
        pool.write(Writer("one", 4, "silence"), Writer("two", 2, "silence"), Writer("three"))
        events, _ = await events_of(pool.stage)
        assert "longer than the time allowed" in events[-1]["error"]["message"]


async def test_a_client_that_leaves_while_another_is_asked_leaves_that_one() -> None:
    async with replicas() as pool:
        one, two = Writer("one", 4), Writer("two", may_begin=asyncio.Event())
        pool.write(one, two)
        asking = asyncio.create_task(events_of(pool.stage))
        await eventually(lambda: len(two.asked) == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: two.left == 1, 1)
        await eventually(lambda: len(pool.stage.parts.ledger.recent) == 1)
        (row,) = pool.stage.parts.ledger.recent
        assert (row.outcome, row.usage.completion_tokens) == ("cancelled", 4)


async def test_a_trace_shows_which_replica_broke_off_and_which_went_on() -> None:
    with fake_collector() as collector:
        tracing = {"tracing": {"endpoint": collector.url}}
        async with replicas(extra=tracing) as made:
            made.write(Writer("one", breaks_after=3), Writer("two"))
            expect_one_stream((await events_of(made.stage))[0])
            await eventually(lambda: bool(collector.roots()), 5)
        (root,) = collector.roots()
    broke, went_on = [s for s in collector.beneath(root) if s.raw.kind == 3]
    assert (broke.told["error.type"], broke.is_failed) == ("stream_interrupted", True)
    assert "error.type" not in went_on.told
    assert went_on.told["gen_ai.usage.output_tokens"] == root.told["gen_ai.usage.output_tokens"]
    assert "gen_ai.usage.output_tokens" not in broke.told
    assert not root.is_failed
