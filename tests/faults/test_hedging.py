"""A backend that is slow to begin is overtaken by another of the same model, within a share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.backend import (
    END_OF_STREAM,
    STREAM_HEAD,
    WHOLE,
    Connection,
    ScriptedBackend,
    chunked,
    json_answer,
    says,
    scripted_backend,
    streams,
)
from tests.fakes.collector import fake_collector
from tests.faults.conftest import Stage, eventually, stage_with


class Slow:
    """Sends the head, and its first event only when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0
        self.left = 0

    async def __call__(self, connection: Connection) -> None:
        self.asked += 1
        await connection.write(STREAM_HEAD)
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        going = asyncio.ensure_future(self.go.wait())
        await asyncio.wait({leaving, going}, return_when=asyncio.FIRST_COMPLETED)
        self.left += leaving.done()
        for one in (leaving, going):
            one.cancel()
        await asyncio.gather(leaving, going, return_exceptions=True)
        if self.go.is_set():
            await connection.write(chunked(*WHOLE) + END_OF_STREAM)


@asynccontextmanager
async def hedged_stage(
    share: float = 0.1, **more: Any
) -> AsyncIterator[tuple[Stage, ScriptedBackend]]:
    """Two replicas, of which the one listed first is asked first and has a known pace."""
    extra = {"hedging": {"share": share, "after": 0.9}, **more}
    async with (
        scripted_backend() as twin,
        stage_with(twin=twin.url, extra=extra, first_token_s=2) as stage,
    ):
        stage.first.will(streams(*WHOLE))
        twin.will(streams(*WHOLE))
        model = stage.parts.catalog.models["first"]
        object.__setattr__(model, "config", model.config.model_copy(update={"balance": "listed"}))
        for _ in range(60):
            assert (await stage.stream(model="first"))[-1] == "[DONE]"
        assert len(twin.requests) <= 6, "only what the share allows"
        stage.first.scripts.clear()
        twin.requests.clear()
        yield stage, twin
        await stage.census()


async def test_the_faster_one_answers_and_the_slower_one_is_left_and_paid_for() -> None:
    async with hedged_stage() as (stage, twin):
        slow = Slow()
        stage.first.will(slow)
        async with asyncio.timeout(1.5):
            assert (await stage.stream(model="first"))[-1] == "[DONE]"
        assert (slow.asked, len(twin.requests)) == (1, 1)
        await eventually(lambda: slow.left == 1)
        row = stage.parts.ledger.recent[-1]
        assert (row.outcome, row.attempts) == ("ok", 2)
        (outrun,) = row.spent
        assert (outrun.usage.completion_tokens, outrun.usage.is_estimated) == (0, True)
        assert outrun.usage.prompt_tokens > 0
        assert row.cost_nanos > outrun.cost_nanos > 0
        assert 'outcome="outrun"} 1' in (await stage.client.get("/metrics")).text


async def test_the_first_may_still_win() -> None:
    async with hedged_stage() as (stage, twin):
        slow, slower = Slow(), Slow()
        stage.first.will(slow)
        twin.scripts.clear()
        twin.will(slower)
        asking = asyncio.create_task(stage.stream(model="first"))
        await eventually(lambda: slower.asked == 1)
        slow.go.set()
        assert (await asking)[-1] == "[DONE]"
        await eventually(lambda: slower.left == 1)


async def test_a_second_that_fails_leaves_the_first_its_time() -> None:
    async with hedged_stage() as (stage, twin):
        slow = Slow()
        stage.first.will(slow)
        twin.scripts.clear()
        twin.will(says(json_answer({"error": {"message": "full"}}, 503)))
        asking = asyncio.create_task(stage.stream(model="first"))
        await eventually(lambda: bool(twin.requests))
        await asyncio.sleep(0.05)
        slow.go.set()
        assert (await asking)[-1] == "[DONE]"
        assert stage.parts.ledger.recent[-1].outcome == "ok"


async def test_a_client_that_leaves_while_both_are_asked_leaves_both() -> None:
    async with hedged_stage() as (stage, twin):
        slow, slower = Slow(), Slow()
        stage.first.will(slow)
        twin.scripts.clear()
        twin.will(slower)
        asking = asyncio.create_task(stage.stream(model="first"))
        await eventually(lambda: slower.asked == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: (slow.left, slower.left) == (1, 1))
        await eventually(lambda: stage.parts.ledger.recent[-1].outcome == "cancelled")


async def test_without_a_share_nobody_is_asked_twice() -> None:
    async with hedged_stage(share=0) as (stage, twin):
        slow = Slow()
        stage.first.will(slow)
        asking = asyncio.create_task(stage.stream(model="first"))
        await eventually(lambda: slow.asked == 1)
        await asyncio.sleep(0.2)
        slow.go.set()
        assert (await asking)[-1] == "[DONE]"
        assert twin.requests == []


async def test_the_share_is_kept() -> None:
    async with hedged_stage(share=0.05) as (stage, twin):
        stage.first.scripts.clear()
        slow = Slow()
        stage.first.will(slow)
        model = stage.parts.catalog.models["first"].backends[0]
        for _ in range(40):
            asking = asyncio.create_task(stage.stream(model="first"))
            before = slow.asked
            await eventually(lambda: slow.asked > before)  # noqa: B023
            await asyncio.sleep(0.02)
            slow.go.set()
            assert (await asking)[-1] == "[DONE]"
            slow.go.clear()
            model.health.ttfts_ms.clear()
            model.health.ttfts_ms.extend([1.0] * 40)
        # 100 streams so far, and twice the share was saved up before the first was slow.
        assert 1 <= len(twin.requests) <= 0.05 * 100 + 1


async def test_a_trace_shows_both_and_which_of_them_was_left() -> None:
    with fake_collector() as collector:
        async with hedged_stage(tracing={"endpoint": collector.url}) as (stage, _):
            stage.first.will(Slow())
            assert (await stage.stream(model="first"))[-1] == "[DONE]"
            trace_id = stage.parts.ledger.recent[-1].trace_id
            await eventually(lambda: any(r.trace_id == trace_id for r in collector.roots()), 5)
        (root,) = [r for r in collector.roots() if r.trace_id == trace_id]
    left, won = [s for s in collector.beneath(root) if s.raw.kind == 3]
    assert (left.told["error.type"], left.is_failed) == ("cancelled", False)
    assert "error.type" not in won.told
    assert won.told["gen_ai.usage.output_tokens"] == 2
    assert left.raw.start_time_unix_nano < won.raw.start_time_unix_nano
    assert left.raw.end_time_unix_nano <= root.raw.end_time_unix_nano
