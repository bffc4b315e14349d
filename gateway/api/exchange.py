"""One HTTP exchange over plain ASGI: bounded reading, deadlined writing, and a watch for who leaves."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from gateway.errors import BodyTooLarge, ClientGone, GatewayError, InvalidRequest, UnsupportedMedia
from gateway.tasks import TaskGroup
from gateway.upstream.sse import encode_event

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JSON = {"content-type": "application/json"}
_EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Exchange:
    """The client's end of one request; see pipeline.Reply."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, send_s: float) -> None:
        self._receive = receive
        self._send = send
        self._send_s = send_s
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        told = self.headers.get("x-request-id", "")
        self.request_id = told if _REQUEST_ID.fullmatch(told) else f"req_{secrets.token_hex(12)}"
        self._has_begun = False
        self._has_ended = False

    # reading

    async def read_json_body(self, max_bytes: int) -> bytes:
        """Return the whole body.

        Raises UnsupportedMedia, BodyTooLarge, or ClientGone when the client leaves while sending.
        """
        kind = self.headers.get("content-type", "application/json").partition(";")[0].strip()
        if not kind.lower().endswith("json"):
            raise UnsupportedMedia(f"send content-type: application/json, not {kind[:80]!r}")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedMedia("send the body without a content-encoding")
        too_large = BodyTooLarge(f"the body exceeds {max_bytes} bytes")
        length = self.headers.get("content-length", "0")
        if not length.isdecimal():
            raise InvalidRequest("content-length is not a number")
        if int(length) > max_bytes:
            raise too_large
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > max_bytes:
                raise too_large
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @asynccontextmanager
    async def watched(self, tasks: TaskGroup) -> AsyncIterator[None]:
        """Cancel the block when the client leaves; leaving it so raises ClientGone.

        uvicorn tells a handler nothing of a client that leaves before the answer begins.
        """
        handler = asyncio.current_task()
        assert handler is not None  # noqa: S101 - ASGI handlers run in tasks
        is_gone = False

        async def watch() -> None:
            nonlocal is_gone
            while (await self._receive())["type"] != "http.disconnect":
                pass
            if not self._has_ended:  # uvicorn calls the end of an answer a disconnect too
                is_gone = True
                handler.cancel()

        watcher = tasks.spawn("watch-client", watch())
        try:
            yield
        except asyncio.CancelledError:
            if is_gone and handler.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()

    # writing

    async def begin_stream(self, headers: Mapping[str, str]) -> None:
        await self._start(200, {**_EVENT_STREAM, **headers})

    async def send(self, data: bytes) -> None:
        """Send a piece of the body. Raises ClientGone when the client does not read it in time."""
        await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self) -> None:
        await self._end(b"")

    async def answer(self, headers: Mapping[str, str], body: bytes) -> None:
        await self._whole(200, headers, body)

    async def fail(self, error: GatewayError, headers: Mapping[str, str]) -> None:
        """Send an error object: as the answer, or as the last event of a stream that began."""
        if self._has_ended:
            return
        if self._has_begun:
            await self.send(encode_event(error.body()))
            await self.end_stream()
            return
        extra = dict(headers)
        if error.should_retry is not None:
            extra["x-should-retry"] = "true" if error.should_retry else "false"
        if error.retry_after_s is not None:
            extra["retry-after"] = str(error.retry_after_s)
        await self._whole(error.status, extra, error.body())

    async def _whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        await self._start(status, {**_JSON, **headers, "content-length": str(len(body))})
        await self._end(body)

    async def _end(self, body: bytes) -> None:
        self._has_ended = True
        await self._put({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self._has_begun = True
        encoded = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()]
        await self._put({"type": "http.response.start", "status": status, "headers": encoded})

    async def _put(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._send_s):
                await self._send(message)
        except TimeoutError as error:
            raise ClientGone from error
