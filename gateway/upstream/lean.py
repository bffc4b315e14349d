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
from urllib.parse import urlsplit

from gateway.addresses import hands_out_credentials, is_address
from gateway.errors import ConnectFailed, OutOfFiles
from gateway.open_files import are_spent
from gateway.strands import in_task
from gateway.upstream.connection import NO_BEGINNING, NO_END, LeanConnection
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.passing import Taker

#: An idle connection is not reused after this long: vLLM and uvicorn close theirs after 5 s.
IDLE_EXPIRY_S = 3.0
ENDS_WITHIN_S = 0.05
NO_FILES = "the gateway has no file left to reach a backend with"


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
        """Keep a connection for the next request, or close it.

        A server may send a stream's last event and the end of its body apart: for that a moment is
        given, in which nothing of it is read any more.
        """
        if not reusable and connection.may_end:
            connection.await_end(self._release_ended, ENDS_WITHIN_S)
            return
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

    def _release_ended(self, connection: LeanConnection) -> None:
        if connection.is_reusable:
            self.release(connection, reusable=True)
        else:
            self._busy.discard(connection)
            connection.abort()

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

    async def pass_on(self, taker: Taker, idle_s: float, within_s: float) -> None:
        """Hand pieces on in the callback that brings them; see UpstreamResponse.pass_on."""
        connection = self._connection
        if connection is not None:
            await connection.pass_on(taker, idle_s, connection.now_s() + within_s)

    async def close(self) -> None:
        """Give the connection back when the answer was read to its end, else close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection, reusable=connection.is_reusable)
