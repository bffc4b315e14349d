"""Supervised tasks that live long or run side by side; a request's own work is a strand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class TaskGroup:
    """Long-lived tasks that end together when the owner closes the group.

    A task started here is kept alive, and its failure is logged with its name.
    """

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start ``work`` now; the caller may cancel the returned task at any time."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def first_success(
    first: Coroutine[Any, Any, T],
    after_s: float,
    second: Callable[[], Coroutine[Any, Any, T] | None],
    discard: Callable[[T], Coroutine[Any, Any, None]],
) -> T:
    """Await ``first``, and when it takes longer than ``after_s``, also what ``second`` begins.

    The first of them to succeed counts; the other is cancelled, and what it comes to all the same is
    given to ``discard``. Raises what the last one raised when none succeeds.
    """
    loop = asyncio.get_running_loop()
    running = [loop.create_task(first)]
    winner: asyncio.Task[T] | None = None
    try:
        done, _ = await asyncio.wait(running, timeout=after_s)
        if not done and (more := second()) is not None:
            running.append(loop.create_task(more))
        failed = running[0]
        waiting = set(running)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None:
                    winner = task
                    return task.result()
                failed = task
        return failed.result()
    finally:
        others = [task for task in running if task is not winner]
        for task in others:
            task.cancel()
        for result in await asyncio.gather(*others, return_exceptions=True):
            if not isinstance(result, BaseException):
                await discard(result)
