"""One socket to a backend: what is sent there, and what comes back, as bytes arrive.

It must never hold more of an answer than its reader asked for; see lean.py for who opens and keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from gateway.clock import CATCH_UP_S, has_stalled
from gateway.errors import BadUpstreamAnswer, FirstByteTimeout, StaleConnection, UpstreamError
from gateway.same_head import SameHead, remember
from gateway.strands import Wait
from gateway.upstream.passing import Taker

#: Unread body beyond this pauses the socket.
HIGH_WATER_BYTES = 256 * 1024
MAX_HEADERS = 128
#: Bytes before the body, of interim answers too; what one read of the socket brings may come on top.
MAX_HEAD_BYTES = 64 * 1024
NO_BEGINNING = "the backend did not begin to answer in time"
NO_END = "the backend stopped sending"
#: Names of headers as servers write them, in lower case; looked up, not made anew for each answer.
_FIELD_NAMES = {
    spelled.encode(): name
    for name in (
        *("connection", "content-encoding", "content-length", "content-type", "date", "keep-alive"),
        *("server", "transfer-encoding", "x-request-id"),
    )
    for spelled in (name, name.title())
}


class LeanConnection(asyncio.Protocol):
    """One socket: one exchange at a time, parsed by httptools as bytes arrive."""

    # What a new connection begins with, and every exchange anew: see ``send``.
    status = 0
    idle_since_s = 0.0
    is_closed = False
    has_head = False
    is_complete = False
    _keeps_alive = False
    _received_any = False
    _is_paused = False
    _buffered = 0
    _head_bytes = 0
    _header_count = 0
    _exchanges = 0
    _deadline_s = 0.0
    _complaint = ""
    #: Who is handed pieces of the body as they come, and the times that hold; see ``pass_on``.
    _taker: Taker | None = None
    _idle_s = 0.0
    _ends_s = 0.0
    _handed_s = 0.0
    _is_between_chunks = False
    #: Told when an answer that nobody waits for has ended, or will not; see ``await_end``.
    _on_end: Callable[[LeanConnection], None] | None = None
    _failure: UpstreamError | None = None
    #: The head of the last answer, where the next one may have the same.
    _same: SameHead | None = None
    _timer: asyncio.TimerHandle | None = None
    _transport: asyncio.Transport | None = None

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now_s = self._loop.time
        #: Woken by news; see ``news``.
        self.wait = Wait(self._loop)
        self._parser = httptools.HttpResponseParser(self)
        self.headers: dict[str, str] = {}
        self._pieces: list[bytes] = []

    @property
    def has_piece(self) -> bool:
        return bool(self._pieces)

    @property
    def is_reusable(self) -> bool:
        return self.is_complete and self._keeps_alive and not self.is_closed

    def send(self, question: bytes) -> None:
        """Begin a new exchange. Whatever was before it was answered whole."""
        self.headers = {}
        self._pieces = []
        self._buffered = self._head_bytes = self._header_count = 0
        self._received_any = self.has_head = self.is_complete = self._keeps_alive = False
        self._is_between_chunks = False
        self._exchanges += 1
        if self._transport is not None:
            self._transport.write(question)

    def take(self) -> bytes:
        """Take what has come of the body."""
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        if self._is_paused and self._transport is not None and not self.is_closed:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def pass_on(self, taker: Taker, idle_s: float, ends_s: float) -> None:
        """See UpstreamResponse.pass_on; ``ends_s`` is by ``now_s``."""
        self._idle_s, self._ends_s, self._handed_s = idle_s, ends_s, self.now_s()
        try:
            while True:
                if self._pieces:
                    if not taker.take(self.take()):
                        return
                elif self.is_complete:
                    return
                else:
                    self._taker = taker
                    await self.news(min(self._handed_s + idle_s, ends_s), NO_END)
                    if self._taker is None:
                        return
        except FirstByteTimeout as error:
            if self.now_s() >= ends_s:
                raise TimeoutError from error
            raise
        finally:
            self._taker = None

    def _hand_on(self, take: Callable[[bytes], bool | None], piece: bytes) -> bool:
        """Hand a piece on; False when it was not taken."""
        try:
            wants_more = take(piece)
        except Exception as error:  # raised where ``pass_on`` waits
            self._taker = None
            self.wait.fail(error)
            return True
        if wants_more:
            self._handed_s = self.now_s()
        elif wants_more is None:
            return False
        else:
            self._taker = None
            self.wait.wake()
        return True

    @property
    def may_end(self) -> bool:
        """Whether nothing of the answer may be missing but the mark of its end."""
        return self._is_between_chunks and not (self.is_complete or self.is_closed or self._pieces)

    def await_end(self, on_end: Callable[[LeanConnection], None], within_s: float) -> None:
        """Call ``on_end`` once: when the answer ends, goes on or breaks off, or the time is over."""
        self._on_end = on_end
        self._loop.call_later(within_s, self._tell_end, on_end)

    def _tell_end(self, on_end: Callable[[LeanConnection], None] | None) -> None:
        if on_end is not None and on_end is self._on_end:
            self._on_end = None
            on_end(self)

    def news(self, deadline_s: float, complaint: str) -> Wait:
        """Await what this returns until the parser or the socket has news; it raises bad ones."""
        if self._failure is not None:
            raise self._failure
        self._deadline_s, self._complaint = deadline_s, complaint
        if self._timer is None or self._timer.when() > deadline_s:
            self._set_timer()
        return self.wait

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline_s, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        """A timer outlives many waits: setting one for each would cost more than the wait."""
        self._timer = None
        if not self.wait.is_awaited:
            return
        if self._taker is not None:
            due_s = min(self._handed_s + self._idle_s, self._ends_s)
            self._deadline_s = max(self._deadline_s, due_s)
        if has_stalled(self._loop, self._deadline_s):
            self._deadline_s = self._loop.time() + CATCH_UP_S
        if self._loop.time() < self._deadline_s:
            self._set_timer()
        else:
            self.wait.fail(FirstByteTimeout(self._complaint))

    def _fail(self, error: UpstreamError) -> None:
        if self._failure is None:
            self._failure = error
        self.wait.fail(self._failure)

    def abort(self) -> None:
        if self._transport is not None and not self.is_closed:
            self._transport.abort()
        self.is_closed = True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.is_complete or self._exchanges == 0:
            self.abort()  # bytes that nobody asked for: this connection cannot be trusted
            return
        taker = self._taker
        if taker is not None and self._is_between_chunks and self._hand_on(taker.take_chunk, data):
            return
        is_first, self._received_any = not self._received_any, True
        if is_first and self._same is not None and self._take_same(self._same, data):
            return
        if not self._parse(data):
            return
        if not data.endswith(b"\n"):  # a chunk's length may have begun: the parser tells it whole
            self._is_between_chunks = False
        if self._on_end is not None:
            self._tell_end(self._on_end)
            return
        if is_first and self.is_reusable and self.status == 200:
            self._same = remember(data, self.headers)
        if taker is not None and self._pieces:
            self._hand_on(taker.take, self.take())
            if self._taker is None or not self.is_complete:
                return
        self.wait.wake()

    def _parse(self, data: bytes) -> bool:
        """Feed the parser; False when that was the end of it, and whoever waits was told."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            if not self.is_complete:  # what follows a whole answer does not spoil it
                self._fail(BadUpstreamAnswer("the backend's answer is not HTTP"))
                return False
        if not self.has_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(BadUpstreamAnswer("the backend's headers are too large"))
                self.abort()
                return False
        return True

    def _take_same(self, same: SameHead, data: bytes) -> bool:
        """Take a whole answer in whose head the parser has read before; False when it is none."""
        body = same.body_of(data)
        if body is None:
            return False
        self.headers = same.fields
        self.status = 200
        self.has_head = self.is_complete = self._keeps_alive = True
        self._pieces.append(body)
        self.wait.wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell_end(self._on_end)
        if self.is_complete:
            return
        ends_at_close = self.has_head and not {"content-length", "transfer-encoding"} & set(
            self.headers
        )
        if exc is None and ends_at_close:
            self.is_complete = True
            self.wait.wake()
        elif self._exchanges > 1 and not self._received_any:
            self._fail(StaleConnection("the backend closed a kept-alive connection"))
        else:
            self._fail(BadUpstreamAnswer("the backend's answer broke off"))

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            if self.is_complete:
                raise ValueError("a second answer, to nothing that was asked")
            return  # a trailer
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            raise ValueError("too many headers")
        field = _FIELD_NAMES.get(name) or name.decode("latin-1").lower()
        self.headers[field] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.is_complete:
            raise ValueError("a second answer, to nothing that was asked")
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self.has_head = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)
        if (
            self._buffered > HIGH_WATER_BYTES
            and not self._is_paused
            and self._transport is not None
        ):
            self._is_paused = True
            self._transport.pause_reading()

    def on_chunk_header(self) -> None:
        self._is_between_chunks = False

    def on_chunk_complete(self) -> None:
        self._is_between_chunks = True

    def on_message_complete(self) -> None:
        if not self.has_head:
            self.headers.clear()  # of an interim answer
            return
        self._keeps_alive = self._parser.should_keep_alive()
        self.is_complete = True
