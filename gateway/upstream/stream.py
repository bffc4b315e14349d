"""Relay a committed stream to the client: every event once, exactly one terminal event at the end.

It must never ask another backend (``gateway.resume`` may), and never send a byte after the terminal
event.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from gateway.clock import Clock
from gateway.errors import FirstByteTimeout, StreamInterrupted, UpstreamError
from gateway.settings import Timeouts
from gateway.upstream.dispatch import OpenAnswer
from gateway.upstream.usage import TokenUsage
from gateway.upstream.wires.wire import EventReader

#: Events handled before other streams get their turn.
EVENTS_AT_ONCE = 256
_TOO_LONG = "the answer took longer than the time allowed"


class Sink(Protocol):
    """Where the relayed bytes go. ``send`` waits while the client does not read."""

    async def send(self, data: bytes) -> None: ...


class Progress(msgspec.Struct):
    """What has gone through so far; true at every moment, so that a cut stream is still accounted."""

    events: int = 0
    usage: TokenUsage | None = None
    has_finish: bool = False
    #: The backend ended its stream by saying that it could not answer.
    has_failed: bool = False


class StreamRelay(msgspec.Struct, frozen=True):
    """How one stream is relayed; ``reader`` turns its events into the client's."""

    reader: EventReader
    timeouts: Timeouts
    clock: Clock

    async def run(
        self, answer: OpenAnswer, sink: Sink, progress: Progress, ends_by_s: float | None = None
    ) -> None:
        """Send all events and what ends them, by ``ends_by_s`` where it began before this answer.

        Raises StreamInterrupted when the answer breaks off; the caller owes the client that error.
        """
        try:
            await self._relay_events(
                answer,
                sink,
                progress,
                ends_by_s or self.clock.monotonic_s() + self.timeouts.total_s,
            )
        except StreamInterrupted:
            raise
        except UpstreamError as error:
            raise StreamInterrupted(error.message, param=error.param, code=error.code) from error
        if end := self.reader.end():
            await sink.send(end)

    async def _relay_events(
        self, answer: OpenAnswer, sink: Sink, progress: Progress, ends_by_s: float
    ) -> None:
        events = answer.events
        while True:
            if len(events) > EVENTS_AT_ONCE:
                is_done = await self._send_in_turns(events, sink, progress)
            else:
                is_done = await self._send(events, sink, progress)
            if is_done:
                return
            remaining_s = ends_by_s - self.clock.monotonic_s()
            if remaining_s <= 0:
                raise StreamInterrupted(_TOO_LONG)
            try:
                piece = await answer.response.read(min(self.timeouts.idle_s, remaining_s))
            except FirstByteTimeout as error:
                if remaining_s < self.timeouts.idle_s:
                    raise StreamInterrupted(_TOO_LONG) from error
                raise
            if not piece:
                if progress.has_finish and not answer.parser.has_rest:
                    return
                raise StreamInterrupted("the backend's stream ended before its answer did")
            events = answer.parser.feed(piece)

    async def _send_in_turns(self, events: list[bytes], sink: Sink, progress: Progress) -> bool:
        """Send many events on, and let other streams have their turn; return whether it is done."""
        for start in range(0, len(events), EVENTS_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            if await self._send(events[start : start + EVENTS_AT_ONCE], sink, progress):
                return True
        return False

    async def _send(self, events: list[bytes], sink: Sink, progress: Progress) -> bool:
        """Send events on; return whether the stream is done."""
        out: list[bytes] = []
        try:
            return self._prepare(events, progress, out)
        finally:  # what came before a bad event is the client's
            if out:
                await sink.send(out[0] if len(out) == 1 else b"".join(out))

    def _prepare(self, events: list[bytes], progress: Progress, out: list[bytes]) -> bool:
        """Add to ``out`` what to send for these events; return whether the stream is done."""
        for data in events:
            chunk = self.reader.take(data)
            if chunk.usage is not None:
                progress.usage = chunk.usage
            if chunk.has_content:
                progress.events += 1
            if chunk.is_finish:
                progress.has_finish = True
            if chunk.has_failed:
                progress.has_failed = True
            if chunk.data is not None:
                out.append(chunk.data)
            if chunk.is_last:
                return True
        return False
