"""Supervised tasks: the only place that starts one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger(__name__)


def start_task(
    work: Coroutine[Any, Any, None],
    loop: asyncio.AbstractEventLoop,
    kept_in: set[asyncio.Task[None]],
) -> asyncio.Task[None]:
    """Start ``work``, which handles its own errors; ``kept_in`` holds it until it ends."""
    task = loop.create_task(work)
    kept_in.add(task)
    task.add_done_callback(kept_in.discard)
    return task


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
