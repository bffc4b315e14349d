"""Coroutines that run without a task as long as they wait for nothing but our own connections.

A task costs a future for every wait and a turn of the event loop for every step. A strand goes on at
once, in the callback that brings what it waits for. The first time that it awaits anything of
asyncio's it becomes an ordinary task, so code on the way need not know which of them runs it; only
what asks for the current task (``asyncio.timeout``, most clients) awaits ``in_task`` before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Protocol


class Cancellable(Protocol):
    def cancel(self, msg: Any | None = None) -> bool: ...


class Waiter(Protocol):
    def advance(self, error: Exception | None = None) -> None:
        """Go on: what was waited for is there, or it failed."""


class Wait:
    """One coroutine at a time waits here until ``wake`` or ``fail`` is called."""

    __slots__ = ("_future", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: Waiter | None = None
        self._future: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits whom nothing has woken yet."""
        future = self._future
        return self._waiter is not None or (future is not None and not future.done())

    def __await__(self) -> Generator[Any, None, None]:
        if asyncio.current_task(self._loop) is None:
            try:
                yield self
            finally:
                self._waiter = None
            return
        self._future = self._loop.create_future()
        try:
            yield from self._future
        finally:
            self._future = None

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.advance()
        elif self._future is not None and not self._future.done():
            self._future.set_result(None)

    def fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.advance(error)
        elif self._future is not None and not self._future.done():
            self._future.set_exception(error)

    def hold(self, waiter: Waiter) -> None:
        """Let ``waiter`` wait, which awaits nothing; once, like a coroutine."""
        self._waiter = waiter

    def let_go(self) -> None:
        """Wait no longer."""
        self._waiter = None


class Strand:
    """Runs ``work``, which handles its own errors; ``kept_in`` holds it until it ends.

    Start it from a callback, never from a task.
    """

    __slots__ = ("_kept_in", "_loop", "_task", "_work")

    def __init__(
        self,
        work: Coroutine[Any, Any, None],
        loop: asyncio.AbstractEventLoop,
        kept_in: set[Cancellable],
    ) -> None:
        self._work = work
        self._loop = loop
        self._kept_in = kept_in
        self._task: asyncio.Task[None] | None = None
        kept_in.add(self)

    def advance(self, error: BaseException | None = None) -> None:
        """Go on until the next wait, with ``error`` raised where it waits now."""
        try:
            waits_for = self._work.send(None) if error is None else self._work.throw(error)
        except (StopIteration, asyncio.CancelledError):
            self._kept_in.discard(self)
        except BaseException:
            self._kept_in.discard(self)
            raise
        else:
            if type(waits_for) is Wait:
                waits_for.hold(self)
            else:
                self._task = self._loop.create_task(_continued(self._work, waits_for))
                self._task.add_done_callback(self._forget)

    def cancel(self, msg: Any | None = None) -> bool:
        """End it as soon as the loop turns: whoever asks may be in the midst of something."""
        if self._task is not None:
            return self._task.cancel(msg)
        self._loop.call_soon(self._cancel_now)
        return True

    def _cancel_now(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self in self._kept_in:
            self.advance(asyncio.CancelledError())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._kept_in.discard(self)
        if not task.cancelled():
            task.result()  # an error of the work is the loop's to report


async def _continued(work: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Go on with work that has begun, where it waits for something of asyncio's."""
    await _Rest(work, waits_for)


class _Rest:
    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._work, self._waits_for = work, waits_for

    def __await__(self) -> Generator[Any, None, None]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    yield waits_for
                except BaseException as error:  # the task is told to end, or what it awaited failed
                    waits_for = self._work.throw(error)
                else:
                    waits_for = self._work.send(None)
        except StopIteration:
            return


async def in_task() -> None:
    """Make sure that a task runs this; see the module."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)
