"""A backend that does what a script says, at the level of bytes on a socket."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

JSON_HEAD = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
END_OF_STREAM = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def json_answer(document: object, status: int = 200) -> bytes:
    body = json.dumps(document).encode()
    return JSON_HEAD % (status, len(body)) + body


def page(text: str | None) -> bytes:
    if text is None:
        return b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n"
    head = b"HTTP/1.1 200 X\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
    return head % len(text.encode()) + text.encode()


def model_object(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "backend"}


def completion(text: str = "Hello", model: str = "served-name") -> bytes:
    return json_answer(
        {
            "id": "c1",
            "object": "chat.completion",
            "model": model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": text}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
        }
    )


def event(text: str | None = None, **fields: Any) -> bytes:
    """One chat chunk; ``finish`` gives its finish reason, ``usage`` a usage object."""
    finish = fields.pop("finish", None)
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    if choices:
        choices[0]["finish_reason"] = finish
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "served-name", **fields}
    return b"data: " + json.dumps({**chunk, "choices": choices}).encode() + b"\n\n"


USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
WHOLE = (event("a"), event("b", finish="stop"), event(usage=USAGE), DONE)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)


@dataclass
class Request:
    """A request that was accepted; ``left`` is set when its client's socket has closed."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    left: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: Request

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()

    async def wait_until_client_leaves(self) -> None:
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass  # it left with a reset
        self.request.left.set()


Act = Callable[[Connection], Awaitable[None]]


def says(*pieces: bytes) -> Act:
    """Write these bytes and keep the connection."""

    async def act(connection: Connection) -> None:
        for piece in pieces:
            await connection.write(piece)

    return act


def streams(*events: bytes) -> Act:
    """Stream these events and end the stream properly."""
    return says(STREAM_HEAD, chunked(*events), END_OF_STREAM)


def then_resets(*pieces: bytes) -> Act:
    async def act(connection: Connection) -> None:
        await says(*pieces)(connection)
        connection.reset()

    return act


def then_closes(*pieces: bytes) -> Act:
    async def act(connection: Connection) -> None:
        await says(*pieces)(connection)
        connection.writer.close()

    return act


def then_hangs(*pieces: bytes) -> Act:
    """Write these bytes, then nothing until the client leaves."""

    async def act(connection: Connection) -> None:
        await says(*pieces)(connection)
        await connection.wait_until_client_leaves()

    return act


class ScriptedBackend:
    """Acts out one script a request; when none is left, the last one again."""

    def __init__(self) -> None:
        self.scripts: deque[Act] = deque()
        self.requests: list[Request] = []
        self.port = 0
        #: What it lists, and says of itself; None is a 404.
        self.models: list[str] = []
        self.metrics: str | None = None
        self.times_read = 0
        self._server: asyncio.Server | None = None
        self._sockets: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def will(self, *acts: Act) -> None:
        self.scripts.extend(acts)

    async def stop(self) -> None:
        """End every connection and listen no longer: connecting is refused from now on."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._sockets)
        for writer in self._sockets.values():
            writer.transport.abort()
        await asyncio.gather(*tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                connection = Connection(reader, writer, request)
                if request.path.endswith("/models"):  # a probe
                    listed = {"object": "list", "data": [model_object(m) for m in self.models]}
                    await says(json_answer(listed))(connection)
                    continue
                if request.path == "/metrics":
                    self.times_read += 1
                    await says(page(self.metrics))(connection)
                    continue
                self.requests.append(request)
                act = self.scripts.popleft() if len(self.scripts) > 1 else self.scripts[0]
                await act(connection)
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *fields = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line.split()[1], headers, json.loads(body or b"{}"))


@asynccontextmanager
async def scripted_backend(
    tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[ScriptedBackend]:
    backend = ScriptedBackend()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        backend._sockets[task] = writer
        try:
            await backend._serve(reader, writer)
        finally:
            del backend._sockets[task]

    backend._server = await asyncio.start_server(serve, host, 0, ssl=tls, backlog=4096)
    backend.port = backend._server.sockets[0].getsockname()[1]
    try:
        yield backend
    finally:
        await backend.stop()
