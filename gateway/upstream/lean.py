"""A small HTTP/1.1 client for the data path: asyncio.Protocol and httptools, one pool a backend.

It must never retry on its own and never hold more of an answer than its reader asked for.
Framing follows RFC 9112; bodies are read as sent, since it asks for no content coding.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

from gateway.errors import (
    BadUpstreamAnswer,
    ConnectFailed,
    FirstByteTimeout,
    StaleConnection,
    UpstreamError,
)
from gateway.upstream.deadlines import Deadlines

#: An idle connection is not reused after this long: vLLM and uvicorn close theirs after 5 s.
IDLE_EXPIRY_S = 3.0
#: Unread body beyond this pauses the socket.
HIGH_WATER_BYTES = 256 * 1024
MAX_HEADERS = 128
#: Bytes before the body, of interim answers too; what one read of the socket brings may come on top.
MAX_HEAD_BYTES = 64 * 1024


class LeanClient:
    """Connections to one backend: opened at need, kept while idle, closed when in doubt."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        fixed = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._fixed_head = f"host: {parts.netloc}\r\n{fixed}".encode("latin-1")
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    @property
    def open_connections(self) -> int:
        return len(self._idle) + len(self._busy)

    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadlines: Deadlines
    ) -> LeanResponse:
        """Send a request and wait for the answer's head; see Transport.open."""
        head = b"%b %b%b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (
            method.encode(),
            self._prefix.encode(),
            path.encode(),
            self._fixed_head,
            "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1"),
            len(body),
        )
        connection = self._take_idle()
        if connection is None:
            connection = await self._connect(deadlines.connect_s)
        self._busy.add(connection)
        try:
            connection.send(head + body)
            await connection.head_arrives(deadlines.first_byte_s)
        except BaseException:
            self._release(connection, reusable=False)
            raise
        return LeanResponse(connection, self._release)

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed and connection.idle_s() < IDLE_EXPIRY_S:
                return connection
            connection.abort()
        return None

    async def _connect(self, timeout_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    _Connection, self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise ConnectFailed("the backend did not accept the connection in time") from error
        except OSError as error:
            raise ConnectFailed("the backend cannot be reached") from error
        return connection

    def _release(self, connection: _Connection, *, reusable: bool) -> None:
        self._busy.discard(connection)
        if reusable and not connection.is_closed:
            connection.begin_idling()
            self._idle.append(connection)
            self._drop_expired()
        else:
            connection.abort()

    def _drop_expired(self) -> None:
        """Close what has idled too long; the newest is taken first, so the oldest lie in front."""
        while self._idle and self._idle[0].idle_s() >= IDLE_EXPIRY_S:
            self._idle.pop(0).abort()

    async def close(self) -> None:
        """Close every connection, idle or busy."""
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()
        self._busy.clear()


class LeanResponse:
    """See UpstreamResponse."""

    __slots__ = ("_connection", "_release", "headers", "status")

    def __init__(self, connection: _Connection, release: Callable[..., None]) -> None:
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self._connection: _Connection | None = connection
        self._release = release

    async def read(self, timeout_s: float) -> bytes:
        """Return the next piece of the body, b"" at its end; see UpstreamResponse.read."""
        if self._connection is None:
            return b""
        return await self._connection.read(timeout_s)

    async def close(self) -> None:
        """Give the connection back when the answer was read to its end, else close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection, reusable=connection.is_reusable)


class _Connection(asyncio.Protocol):
    """One socket: one exchange at a time, parsed by httptools as bytes arrive."""

    def __init__(self) -> None:
        self.is_closed = False
        self._idle_since = 0.0
        self.status = 0
        self.headers: dict[str, str] = {}
        self._transport: asyncio.Transport | None = None
        self._exchanges = 0
        self._failure: UpstreamError | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._complaint = ""
        self._is_paused = False
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.headers = {}
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._received_any = False
        self._has_head = False
        self._head_bytes = 0
        self._header_count = 0
        self._is_complete = False
        self._keeps_alive = False

    def begin_idling(self) -> None:
        self._idle_since = self._loop.time()

    def idle_s(self) -> float:
        return self._loop.time() - self._idle_since

    @property
    def is_reusable(self) -> bool:
        return self._is_complete and self._keeps_alive and not self.is_closed

    def send(self, data: bytes) -> None:
        """Begin a new exchange."""
        self._begin()
        self._exchanges += 1
        if self._transport is not None:
            self._transport.write(data)

    async def head_arrives(self, timeout_s: float) -> None:
        """Wait for status and headers, within one deadline for all of them."""
        deadline = self._loop.time() + timeout_s
        while not self._has_head:
            await self._wait(deadline, "the backend did not begin to answer in time")

    async def read(self, timeout_s: float) -> bytes:
        # Framing alone is no progress: one deadline, whatever arrives between two pieces of body.
        deadline = self._loop.time() + timeout_s
        while not self._pieces:
            if self._is_complete:
                return b""
            await self._wait(deadline, "the backend stopped sending")
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._is_paused and self._transport is not None and not self.is_closed:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def _wait(self, deadline: float, complaint: str) -> None:
        """Wait until the parser or the socket has news; raise what the news amounts to."""
        if self._failure is not None:
            raise self._failure
        self._deadline, self._complaint = deadline, complaint
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        """A timer outlives many waits: setting one for each would cost more than the wait."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._waiter.set_exception(FirstByteTimeout(self._complaint))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        if self._failure is None:
            self._failure = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._failure)

    def abort(self) -> None:
        if self._transport is not None and not self.is_closed:
            self._transport.abort()
        self.is_closed = True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._is_complete or self._exchanges == 0:
            self.abort()  # bytes that nobody asked for: this connection cannot be trusted
            return
        self._received_any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            if not self._is_complete:  # what follows a whole answer does not spoil it
                self._fail(BadUpstreamAnswer("the backend's answer is not HTTP"))
                return
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(BadUpstreamAnswer("the backend's headers are too large"))
                self.abort()
                return
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_complete:
            return
        ends_at_close = self._has_head and not {"content-length", "transfer-encoding"} & set(
            self.headers
        )
        if exc is None and ends_at_close:
            self._is_complete = True
            self._wake()
        elif self._exchanges > 1 and not self._received_any:
            self._fail(StaleConnection("the backend closed a kept-alive connection"))
        else:
            self._fail(BadUpstreamAnswer("the backend's answer broke off"))

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise ValueError("a second answer, to nothing that was asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            raise ValueError("too many headers")
        if self._has_head:
            return  # a trailer
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._has_head = True

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

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.headers.clear()
            return
        self._keeps_alive = self._parser.should_keep_alive()
        self._is_complete = True
