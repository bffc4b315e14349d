"""Relay a committed stream to the client: every event once, exactly one terminal event at the end.

It must never ask another backend (``gateway.resume`` may), and never send a byte after the terminal
event.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from gateway.clock import Clock
from gateway.errors import StreamInterrupted, UpstreamError
from gateway.settings import Timeouts
from gateway.upstream.answers import Chunk
from gateway.upstream.dispatch import OpenAnswer
from gateway.upstream.same_chunk import SameChunk, remember_chunk
from gateway.upstream.sse import SseParser
from gateway.upstream.usage import TokenUsage
from gateway.upstream.wires.openai import ChatReader
from gateway.upstream.wires.wire import EventReader

#: Events handled before other streams get their turn.
EVENTS_AT_ONCE = 256
#: Chunks in a row that may differ from the one before in more than words until none is compared.
_TRIES = 4
_TOO_LONG = "the answer took longer than the time allowed"


class Sink(Protocol):
    """Where the relayed bytes go."""

    @property
    def takes_chunks(self) -> bool:
        """Whether what is sent goes to the client in chunks, so that ``write_chunk`` may be called."""

    def write(self, data: bytes) -> bool:
        """Send on; False where ``drain`` has to be awaited before more. Raises ClientGone."""

    def write_chunk(self, data: bytes) -> bool:
        """Like ``write``, for one chunk with its framing."""

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises ClientGone when it does not in time."""


class Progress(msgspec.Struct):
    """What has gone through so far; true at every moment, so that a cut stream is still accounted."""

    events: int = 0
    usage: TokenUsage | None = None
    has_finish: bool = False
    #: The backend ended its stream by saying that it could not answer.
    has_failed: bool = False


class _Passage:
    """One stream's events on their way to its client, as far as they have come."""

    __slots__ = (
        "_parser",
        "_progress",
        "_reader",
        "_same",
        "_sink",
        "_tries",
        "is_done",
        "is_full",
        "waiting",
    )

    def __init__(
        self, reader: EventReader, parser: SseParser, sink: Sink, progress: Progress
    ) -> None:
        self._reader, self._parser, self._sink, self._progress = reader, parser, sink, progress
        #: What is compared with, and how many more chunks may differ from it until none is.
        self._same: SameChunk | None = None
        # A reader that keeps something of an event has to see it.
        self._tries = _TRIES if type(reader) is ChatReader and sink.takes_chunks else 0
        #: The client does not read as fast as it is sent.
        self.is_full = False
        self.is_done = False
        #: Events that have come and were not sent yet.
        self.waiting: list[bytes] = []

    def take(self, piece: bytes) -> bool:
        """Send on what ``piece`` completes; whether the next piece is wanted at once."""
        parser = self._parser
        was_between = parser.is_between
        events = parser.feed(piece)
        if self._tries and len(events) == 1 and was_between and parser.is_between:
            return self._send_and_remember(piece, events[0])
        if not parser.is_between:
            self._same = None  # a chunk may now be a part of an event
        return self.send(events)

    def take_chunk(self, data: bytes) -> bool | None:
        """Send on a chunk like the one before; see Taker."""
        same = self._same
        if same is None or (told := same.sent_for(data)) is None:
            return None
        self._tries = _TRIES
        self._progress.events += 1
        self.is_full = not self._sink.write_chunk(told)
        return not self.is_full

    def send(self, events: list[bytes]) -> bool:
        """Send events on, at most EVENTS_AT_ONCE; whether the next piece is wanted at once."""
        self.is_full = False
        if len(events) > EVENTS_AT_ONCE:
            self.waiting = events[EVENTS_AT_ONCE:]
            events = events[:EVENTS_AT_ONCE]
        out: list[bytes] = []
        try:
            for data in events:
                chunk = self._note(self._reader.take(data))
                if chunk.data is not None:
                    out.append(chunk.data)
                if chunk.is_last:
                    self.is_done = True
                    break
        finally:  # what came before a bad event is the client's
            if out:
                self.is_full = not self._sink.write(out[0] if len(out) == 1 else b"".join(out))
        return not (self.is_full or self.is_done or self.waiting)

    def _send_and_remember(self, piece: bytes, event: bytes) -> bool:
        chunk = self._note(self._reader.take(event))
        self._tries -= 1
        self._same = None
        self.is_done = chunk.is_last
        if chunk.data is not None:
            self.is_full = not self._sink.write(chunk.data)
            if chunk.has_content and chunk.usage is None and not chunk.is_finish:
                self._same = remember_chunk(piece, chunk.data)
        return not (self.is_full or self.is_done)

    def _note(self, chunk: Chunk) -> Chunk:
        progress = self._progress
        if chunk.usage is not None:
            progress.usage = chunk.usage
        if chunk.has_content:
            progress.events += 1
        if chunk.is_finish:
            progress.has_finish = True
        if chunk.has_failed:
            progress.has_failed = True
        return chunk


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
        passage = _Passage(self.reader, answer.parser, sink, progress)
        passage.waiting = answer.events
        if ends_by_s is None:
            ends_by_s = self.clock.monotonic_s() + self.timeouts.total_s
        try:
            await self._pass_all(answer, passage, sink, ends_by_s)
        except StreamInterrupted:
            raise
        except UpstreamError as error:
            raise StreamInterrupted(error.message, param=error.param, code=error.code) from error
        if not passage.is_done and not (progress.has_finish and not answer.parser.has_rest):
            raise StreamInterrupted("the backend's stream ended before its answer did")
        if (end := self.reader.end()) and not sink.write(end):
            await sink.drain()

    async def _pass_all(
        self, answer: OpenAnswer, passage: _Passage, sink: Sink, ends_by_s: float
    ) -> None:
        """Pass events on until the last one, or the end of the body."""
        has_ended = False
        while True:
            while passage.waiting and not passage.is_done:
                events, passage.waiting = passage.waiting, []
                passage.send(events)
                if passage.is_full:
                    await sink.drain()
                elif passage.waiting:  # others get their turn
                    await asyncio.sleep(0)
            if passage.is_done or has_ended:
                return
            remaining_s = ends_by_s - self.clock.monotonic_s()
            if remaining_s <= 0:
                raise StreamInterrupted(_TOO_LONG)
            passage.is_full = False  # the body may end with no other piece
            try:
                await answer.response.pass_on(passage, self.timeouts.idle_s, remaining_s)
            except TimeoutError as error:
                raise StreamInterrupted(_TOO_LONG) from error
            if passage.is_full:
                await sink.drain()
            elif not passage.waiting:
                has_ended = True
