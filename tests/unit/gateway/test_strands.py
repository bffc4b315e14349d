"""Strands: work that goes on in the callback that wakes it, and turns into a task where it must."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.strands import Cancellable, Strand, Wait, in_task


class Stage:
    """Starts strands as a protocol does, from callbacks, and keeps what they did."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.kept: set[Cancellable] = set()
        self.heard: list[str] = []
        self.wait = Wait(self.loop)

    async def call(self, callback: Any, *args: Any) -> None:
        """Run something where no task is."""
        done = asyncio.Event()

        def run() -> None:
            try:
                callback(*args)
            finally:
                done.set()

        self.loop.call_soon(run)
        await done.wait()

    async def start(self, work: Coroutine[Any, Any, None]) -> Strand:
        strand = Strand(work, self.loop, self.kept)
        await self.call(strand.advance)
        return strand


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_work_that_never_waits_is_done_at_once(stage: Stage) -> None:
    async def work() -> None:
        stage.heard.append("done")

    await stage.start(work())
    assert stage.heard == ["done"]
    assert not stage.kept


async def test_it_goes_on_inside_the_call_that_wakes_it_and_without_a_task(stage: Stage) -> None:
    async def work() -> None:
        for _ in range(2):
            await stage.wait
            stage.heard.append(f"woken, task {asyncio.current_task()}")

    before = asyncio.all_tasks()
    await stage.start(work())
    assert stage.wait.is_awaited
    for count in (1, 2):
        await stage.call(stage.wait.wake)
        assert len(stage.heard) == count
    assert asyncio.all_tasks() == before
    assert stage.heard == ["woken, task None"] * 2
    assert not stage.kept
    assert not stage.wait.is_awaited


async def test_what_fails_is_raised_where_it_waits(stage: Stage) -> None:
    async def work() -> None:
        try:
            await stage.wait
        except ValueError as error:
            stage.heard.append(str(error))

    await stage.start(work())
    await stage.call(stage.wait.fail, ValueError("broken"))
    assert stage.heard == ["broken"]


async def test_a_wait_of_asyncio_makes_it_a_task_and_it_goes_on_there(stage: Stage) -> None:
    future = stage.loop.create_future()

    async def work() -> None:
        await stage.wait
        stage.heard.append(await future)
        await stage.wait
        stage.heard.append("in a task" if asyncio.current_task() else "in none")

    await stage.start(work())
    await stage.call(stage.wait.wake)
    future.set_result("told")
    await asyncio.sleep(0.01)
    assert stage.heard == ["told"]
    assert len(stage.kept) == 1
    await stage.call(stage.wait.wake)
    await asyncio.sleep(0.01)
    assert stage.heard == ["told", "in a task"]
    assert not stage.kept


async def test_an_error_awaited_in_a_task_reaches_the_work(stage: Stage) -> None:
    future = stage.loop.create_future()

    async def work() -> None:
        try:
            await future
        except OSError as error:
            stage.heard.append(str(error))

    await stage.start(work())
    future.set_exception(OSError("no route"))
    await asyncio.sleep(0.01)
    assert stage.heard == ["no route"]
    assert not stage.kept


async def test_in_task_lets_timeouts_be_used(stage: Stage) -> None:
    async def work() -> None:
        await in_task()
        await in_task()  # a second time changes nothing
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(5)
        except TimeoutError:
            stage.heard.append("too late")

    await stage.start(work())
    await asyncio.sleep(0.1)
    assert stage.heard == ["too late"]
    assert not stage.kept


@pytest.mark.parametrize("is_task", [False, True], ids=["strand", "task"])
async def test_cancelled_work_cleans_up(stage: Stage, *, is_task: bool) -> None:
    async def work() -> None:
        if is_task:
            await in_task()
        try:
            await stage.wait
        except asyncio.CancelledError:
            stage.heard.append("cancelled")
            raise

    strand = await stage.start(work())
    await asyncio.sleep(0.01)
    assert strand.cancel("the client left")
    assert stage.heard == []  # never inside the call: who cancels may be in the midst of something
    await asyncio.sleep(0.01)
    assert stage.heard == ["cancelled"]
    assert not stage.kept
    assert not stage.wait.is_awaited
    strand.cancel()
    await asyncio.sleep(0.01)


async def test_a_cancel_that_comes_as_it_ends_changes_nothing(stage: Stage) -> None:
    async def work() -> None:
        await stage.wait
        stage.heard.append("done")

    strand = await stage.start(work())

    def both() -> None:
        strand.cancel()
        stage.wait.wake()

    await stage.call(both)
    await asyncio.sleep(0.01)
    assert stage.heard == ["done"]
    assert not stage.kept


@pytest.mark.parametrize("is_task", [False, True], ids=["strand", "task"])
async def test_an_error_that_the_work_does_not_handle_is_reported(
    stage: Stage, *, is_task: bool
) -> None:
    told: list[dict[str, Any]] = []
    stage.loop.set_exception_handler(lambda _, context: told.append(context))

    async def work() -> None:
        if is_task:
            await in_task()
        await stage.wait
        raise KeyError("a defect")

    await stage.start(work())
    await asyncio.sleep(0.01)
    stage.loop.call_soon(stage.wait.wake)
    await asyncio.sleep(0.05)
    assert isinstance(told[0]["exception"], KeyError)
    assert not stage.kept


async def test_a_wait_in_an_ordinary_task_works_alike(stage: Stage) -> None:
    async def work() -> None:
        await stage.wait
        stage.heard.append("woken")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert stage.wait.is_awaited
    stage.wait.wake()
    stage.wait.wake()  # nobody is there any more
    await task
    assert stage.heard == ["woken"]
