"""One request and its answer on a client's connection: checked, collected, written with a deadline.

Traffic does not pass through ASGI: its scope, its messages and the watching of a client cost more
than everything the gateway does for a request. ``server.http_protocol`` drives an exchange; the
pipeline sees it as its ``Reply``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from gateway.clock import CATCH_UP_S, has_stalled
from gateway.errors import BodyTooLarge, ClientGone, GatewayError, InvalidRequest, UnsupportedMedia
from gateway.ids import new_id
from gateway.strands import Cancellable, in_task
from gateway.upstream.same_chunk import framed
from gateway.upstream.wires.wire import ErrorEvent

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_JSON = "content-type: application/json\r\n"
_EVENT_STREAM = (
    "content-type: text/event-stream; charset=utf-8\r\n"
    "cache-control: no-cache\r\n"
    "x-accel-buffering: no\r\n"
)
_CLOSE = "connection: close\r\n"


class Flow(Protocol):
    """Back-pressure of one connection, as uvicorn keeps it."""

    @property
    def write_paused(self) -> bool: ...

    async def drain(self) -> None: ...


class Connection(Protocol):
    """What an exchange needs of the connection it is on."""

    transport: asyncio.Transport

    @property
    def flow(self) -> Flow: ...

    def standing_headers(self) -> str:
        """Header lines that every answer carries."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what nobody waits for, as long as the process serves."""

    def on_response_complete(self) -> None: ...


class Bounds(msgspec.Struct, frozen=True):
    """What a client may send, how long it may take to read, and how it is told of an error."""

    max_body_bytes: int
    send_s: float
    error_body: Callable[[GatewayError], bytes] = GatewayError.body


#: For the answer to what never became a request.
NO_BOUNDS = Bounds(0, 0.0)


class Exchange:
    """See pipeline.Reply. ``response_complete`` and ``keep_alive`` are read by uvicorn's protocol."""

    # What most exchanges never change stands here once.
    is_http_1_0 = False
    is_head_request = False
    is_received = False
    #: Whether all of its headers are such as every client sends; see server.http_protocol.
    is_usual = False
    response_complete = False
    #: What answers it, as long as it does.
    work: Cancellable | None = None
    #: What the client was told that went wrong.
    failure: GatewayError | None = None
    _body_bytes = 0
    _has_begun = False
    _is_chunked = False
    _error_event: ErrorEvent | None = None

    def __init__(
        self, connection: Connection, headers: dict[str, str], bounds: Bounds, *, keep_alive: bool
    ) -> None:
        """``headers`` are by lower-case name; they become the exchange's own."""
        self._connection = connection
        self._bounds = bounds
        self.headers = headers
        told = headers.get("x-request-id")
        if told is not None and _REQUEST_ID.fullmatch(told) is not None:
            self.request_id = told
        else:
            self.request_id = new_id("req_")
        self.keep_alive = keep_alive
        self._pieces: list[bytes] = []

    # receiving

    def check_headers(self) -> None:
        """Raise UnsupportedMedia, BodyTooLarge or InvalidRequest for what the headers rule out."""
        kind = self.headers.get("content-type", "application/json")
        if kind != "application/json":
            essence = kind.partition(";")[0].strip()
            if not essence.lower().endswith("json"):
                raise UnsupportedMedia(f"send content-type: application/json, not {kind[:80]!r}")
        encoding = self.headers.get("content-encoding")
        if encoding is not None and encoding.lower() != "identity":
            raise UnsupportedMedia("send the body without a content-encoding")
        length = self.headers.get("content-length", "0")
        if not length.isdecimal():
            raise InvalidRequest("content-length is not a number")
        if int(length) > self._bounds.max_body_bytes:
            raise self._too_large()

    def receive(self, piece: bytes) -> None:
        """Take a piece of the body. Raises BodyTooLarge."""
        self._body_bytes += len(piece)
        if self._body_bytes > self._bounds.max_body_bytes:
            self._pieces.clear()
            raise self._too_large()
        self._pieces.append(piece)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body exceeds {self._bounds.max_body_bytes} bytes")

    def body(self) -> bytes:
        """Return the whole body."""
        pieces = self._pieces
        if len(pieces) != 1:
            pieces[:] = [b"".join(pieces)]
        return pieces[0]

    def take_body(self) -> bytes:
        """Return the whole body; it is kept no longer here."""
        body = self.body()
        self._pieces.clear()
        return body

    # answering

    @property
    def has_left(self) -> bool:
        """Whether the client is gone, or as good as gone."""
        return self._connection.transport.is_closing()

    async def begin_stream(self, headers: Mapping[str, str], error_event: ErrorEvent) -> None:
        self.begin_stream_plainly(_lines_of(headers), error_event)

    def begin_stream_plainly(self, lines: str, error_event: ErrorEvent) -> None:
        """Like ``begin_stream``, with header lines, each with its end. Raises ClientGone."""
        self._error_event = error_event
        framing = ""
        if self.is_http_1_0:
            self.keep_alive = False
        else:
            self._is_chunked = True
            framing = "transfer-encoding: chunked\r\n"
        head = self._head(200, _EVENT_STREAM + framing, lines)
        if self.has_left:
            raise ClientGone
        self._connection.transport.write(head)

    @property
    def takes_chunks(self) -> bool:
        return self._is_chunked

    def write(self, data: bytes) -> bool:
        """Send a piece of a stream; False where ``drain`` has to be awaited before the next one.

        Raises ClientGone.
        """
        return self.write_chunk(framed(data) if self._is_chunked else data)

    def write_chunk(self, data: bytes) -> bool:
        """Like ``write``, for one chunk with its framing."""
        connection = self._connection
        transport = connection.transport
        if transport.is_closing():
            raise ClientGone
        transport.write(data)
        return not connection.flow.write_paused

    async def end_stream(self) -> None:
        self.end_stream_now()

    def end_stream_now(self) -> None:
        self._finish(b"0\r\n\r\n" if self._is_chunked else b"")

    async def answer(self, headers: Mapping[str, str], body: bytes) -> None:
        self.answer_now(200, headers, body)
        if self._connection.flow.write_paused:
            await self.drain()

    async def fail(self, error: GatewayError, headers: Mapping[str, str]) -> None:
        """Send an error object: as the answer, or as the last event of a stream that began."""
        self.fail_now(error, headers)

    def fail_now(self, error: GatewayError, headers: Mapping[str, str]) -> None:
        """Like ``fail``; an error object is small enough never to wait."""
        if self.response_complete:
            return
        self.failure = error
        if self._has_begun and self._error_event is not None:
            event = self._error_event(error)
            if self._is_chunked:
                self._finish(framed(event) + b"0\r\n\r\n")
            else:
                self._finish(event)
            return
        extra = dict(headers)
        if error.should_retry is not None:
            extra["x-should-retry"] = "true" if error.should_retry else "false"
        if error.status == 405:  # RFC 9110 §15.5.6; the data path takes nothing else
            extra["allow"] = "POST"
        if error.status == 401:  # RFC 9110 §11.6.1
            extra["www-authenticate"] = "Bearer"
        if error.retry_after_s is not None:
            extra["retry-after"] = str(error.retry_after_s)
            extra["retry-after-ms"] = str(1_000 * error.retry_after_s)
        self.answer_now(error.status, extra, self._bounds.error_body(error))

    def answer_now(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Write a whole answer without waiting for the client to read it."""
        head = self._head(status, f"{_JSON}content-length: {len(body)}\r\n", _lines_of(headers))
        self._finish(head if self.is_head_request else head + body)

    def answer_plainly(self, lines: str, body: bytes) -> bool:
        """Like ``answer``, for who cannot wait; ``lines`` are header lines, each with its end.

        False when the client does not read as fast as that: then ``drain`` waits for it.
        """
        head = self._head(200, f"{_JSON}content-length: {len(body)}\r\n", lines)
        self._finish(head + body)
        return not self._connection.flow.write_paused

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what nobody waits for."""
        self._connection.start(work)

    def _head(self, status: int, fixed: str, lines: str) -> bytes:
        self._has_begun = True
        closing = "" if self.keep_alive else _CLOSE
        standing = self._connection.standing_headers()
        text = f"{_STATUS_LINES[status]}{standing}{fixed}{closing}{lines}\r\n"
        return text.encode("latin-1")

    def _finish(self, data: bytes) -> None:
        """Write the last bytes of the answer and give the connection free for the next request."""
        self.response_complete = True
        # What answered refers to this exchange: let go, both end without the garbage collector.
        self.work = None
        transport = self._connection.transport
        if transport.is_closing():
            return
        transport.write(data)
        if not self.keep_alive:
            transport.close()
        self._connection.on_response_complete()

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises ClientGone when it does not in time."""
        await in_task()
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._bounds.send_s
        try:
            try:
                async with asyncio.timeout_at(due_s):
                    await self._connection.flow.drain()
            except TimeoutError:
                if not has_stalled(loop, due_s):
                    raise
                async with asyncio.timeout(CATCH_UP_S):
                    await self._connection.flow.drain()
        except TimeoutError as error:
            # Closing would wait for the client to read what is buffered, perhaps for ever.
            self._connection.transport.abort()
            raise ClientGone from error

    def abort(self) -> None:
        """Leave no doubt that nothing more will come."""
        if not self.response_complete:
            self._connection.transport.abort()


def _lines_of(headers: Mapping[str, str]) -> str:
    """Header lines, each with its end. Raises ValueError for a value that would be two."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a response header holds a line break")
    return lines
