"""A small HTTP/1.1 client for the data path: asyncio.Protocol and httptools, one pool a backend.

It must never retry on its own and never hold more of an answer than its reader asked for.
Framing follows RFC 9112; bodies are read as sent, since it asks for no content coding.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import cast
from urllib.parse import urlsplit

import httptools

from gateway.addresses import hands_out_credentials, is_address
from gateway.clock import CATCH_UP_S, has_stalled
from gateway.errors import (
    BadUpstreamAnswer,
    ConnectFailed,
    FirstByteTimeout,
    OutOfFiles,
    StaleConnection,
    UpstreamError,
)
from gateway.open_files import are_spent
from gateway.strands import Wait, in_task
from gateway.upstream.deadlines import Deadlines

#: An idle connection is not reused after this long: vLLM and uvicorn close theirs after 5 s.
IDLE_EXPIRY_S = 3.0
#: Unread body beyond this pauses the socket.
HIGH_WATER_BYTES = 256 * 1024
MAX_HEADERS = 128
NO_FILES = "the gateway has no file left to reach a backend with"
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


class LeanClient:
    """Connections to one backend: opened at need, kept while idle, closed when in doubt."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._is_address = is_address(self._host)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        fixed = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._fixed_head = f"host: {parts.netloc}\r\n{fixed}".encode("latin-1")
        self._begins: dict[tuple[str, str], bytes] = {}
        self._idle: list[LeanConnection] = []
        self._busy: set[LeanConnection] = set()

    @property
    def open_connections(self) -> int:
        return len(self._idle) + len(self._busy)

    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadlines: Deadlines
    ) -> LeanResponse:
        """Send a request and wait for the answer's head; see Transport.open."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        question = self._question(method, path, lines, body)
        connection = self._take_idle()
        if connection is None:
            connection = await self._connect(deadlines.connect_s)
        self._busy.add(connection)
        try:
            connection.send(question)
            deadline_s = connection.now_s() + deadlines.first_byte_s
            while not connection.has_head:
                await connection.news(deadline_s, NO_BEGINNING)
        except BaseException:
            self.release(connection, reusable=False)
            raise
        return LeanResponse(connection, self.release)

    def begin(self, method: str, path: str, lines: str, body: bytes) -> LeanConnection | None:
        """Send a request at once, on a connection that idles; None where there is none.

        ``lines`` are header lines, each with its end. Whoever gets a connection releases it.
        """
        connection = self._take_idle()
        if connection is not None:
            self._busy.add(connection)
            connection.send(self._question(method, path, lines, body))
        return connection

    def _question(self, method: str, path: str, lines: str, body: bytes) -> bytes:
        begin = self._begins.get((method, path))
        if begin is None:
            begin = f"{method} {self._prefix}{path} HTTP/1.1\r\n".encode() + self._fixed_head
            self._begins[method, path] = begin
        length = len(body)
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (begin, lines.encode("latin-1"), length, body)

    def _take_idle(self) -> LeanConnection | None:
        while self._idle:
            connection = self._idle.pop()
            idle_s = connection.now_s() - connection.idle_since_s
            if not connection.is_closed and idle_s < IDLE_EXPIRY_S:
                return connection
            connection.abort()
        return None

    async def _connect(self, timeout_s: float) -> LeanConnection:
        await in_task()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._connect_to_any()
        except TimeoutError as error:
            raise ConnectFailed("the backend did not accept the connection in time") from error
        except OSError as error:
            if are_spent():
                raise OutOfFiles(NO_FILES) from error
            raise ConnectFailed("the backend cannot be reached") from error

    async def _connect_to_any(self) -> LeanConnection:
        """Connect to the first address that answers; every connection asks for them anew.

        What was checked is what is connected to: a name cannot lead elsewhere in between. Raises
        OSError, ConnectFailed for a name that leads to where clouds hand out credentials.
        """
        loop = asyncio.get_running_loop()
        addresses = [self._host]
        if not self._is_address:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(told[4][0]) for told in found))
        if any(map(hands_out_credentials, addresses)):
            raise ConnectFailed("the backend's name leads to an address that is no backend's")
        name = None if self._tls is None else self._host
        for address in addresses[:-1]:
            with suppress(OSError):
                return await self._connect_to(address, name)
        return await self._connect_to(addresses[-1], name)

    async def _connect_to(self, address: str, tls_name: str | None) -> LeanConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            LeanConnection, address, self._port, ssl=self._tls, server_hostname=tls_name
        )
        return connection

    def release(self, connection: LeanConnection, *, reusable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        self._busy.discard(connection)
        if not reusable:
            connection.abort()
            return
        now_s = connection.idle_since_s = connection.now_s()
        idle = self._idle
        idle.append(connection)
        # The newest is taken first, so those that have idled too long lie in front.
        while now_s - idle[0].idle_since_s >= IDLE_EXPIRY_S:
            idle.pop(0).abort()

    async def close(self) -> None:
        """Close every connection, idle or busy."""
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()
        self._busy.clear()


class LeanResponse:
    """See UpstreamResponse."""

    __slots__ = ("_connection", "_release", "headers", "status")

    def __init__(self, connection: LeanConnection, release: Callable[..., None]) -> None:
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self._connection: LeanConnection | None = connection
        self._release = release

    def take_whole(self) -> bytes | None:
        """Return all of the body where all of it is here, else None and nothing is taken."""
        connection = self._connection
        return connection.take() if connection is not None and connection.is_complete else None

    async def read(self, timeout_s: float) -> bytes:
        """Return the next piece of the body, b"" at its end; see UpstreamResponse.read."""
        connection = self._connection
        if connection is None:
            return b""
        # Framing alone is no progress: one deadline, whatever arrives between two pieces of body.
        deadline_s = connection.now_s() + timeout_s
        while not connection.has_piece:
            if connection.is_complete:
                return b""
            await connection.news(deadline_s, NO_END)
        return connection.take()

    async def close(self) -> None:
        """Give the connection back when the answer was read to its end, else close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection, reusable=connection.is_reusable)


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
    _failure: UpstreamError | None = None
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
        self._received_any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            if not self.is_complete:  # what follows a whole answer does not spoil it
                self._fail(BadUpstreamAnswer("the backend's answer is not HTTP"))
                return
        if not self.has_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(BadUpstreamAnswer("the backend's headers are too large"))
                self.abort()
                return
        self.wait.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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

    def on_message_complete(self) -> None:
        if not self.has_head:
            self.headers.clear()  # of an interim answer
            return
        self._keeps_alive = self._parser.should_keep_alive()
        self.is_complete = True
