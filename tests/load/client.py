"""A client at the level of bytes: it sees every event, and may leave whenever it likes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

LIMIT_S = 30
_TERMINAL = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "message_stop", "error"}
)


class Seen(msgspec.Struct):
    """What one client saw. ``has_left`` when it left of its own accord."""

    request_id: str
    status: int = 0
    is_stream: bool = False
    events: int = 0
    terminals: int = 0
    bytes_after_end: int = 0
    is_error: bool = False
    has_left: bool = False


def request_bytes(path: str, request_id: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    return (
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
        b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
        % (path.encode(), request_id.encode(), len(content), content)
    )


async def visit(
    port: int, path: str, request_id: str, body: dict[str, Any], leaves_after: int | None
) -> Seen:
    """Ask once. ``leaves_after`` counts reads before this client closes its socket."""
    seen = Seen(request_id)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(LIMIT_S):
            writer.write(request_bytes(path, request_id, body))
            await writer.drain()
            reads = 0
            while leaves_after is None or reads < leaves_after:
                piece = await reader.read(65536)
                if not piece:
                    break
                received += piece
                reads += 1
            else:
                seen.has_left = True
    finally:
        writer.transport.abort()
    if not seen.has_left:
        _read(seen, received)
    return seen


def _read(seen: Seen, received: bytes) -> None:
    head, _, content = received.partition(b"\r\n\r\n")
    seen.status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" in head:
        content, rest = _dechunk(content)
        seen.bytes_after_end = len(rest)
    seen.is_stream = b"text/event-stream" in head
    if not seen.is_stream:
        seen.is_error = bool(json.loads(content).get("error"))
        return
    for block in content.decode().split("\n\n")[:-1]:
        seen.events += 1
        data = block.rpartition("data: ")[2]
        document = {} if data == "[DONE]" else json.loads(data)
        is_error = bool(document.get("error")) and document.get("type", "error") == "error"
        seen.is_error |= is_error
        if data == "[DONE]" or is_error or document.get("type") in _TERMINAL:
            seen.terminals += 1
        elif seen.terminals:
            seen.bytes_after_end += len(block)


def _dechunk(content: bytes) -> tuple[bytes, bytes]:
    pieces = []
    while content:
        size, _, content = content.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return b"".join(pieces), content.removeprefix(b"\r\n")
        pieces.append(content[:length])
        content = content[length + 2 :]
    return b"".join(pieces), b""
