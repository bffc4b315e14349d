"""Small pages that a backend is asked for beside the traffic: bounded in size and time."""

from __future__ import annotations

from gateway.errors import BadUpstreamAnswer
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.transport import Transport

MAX_PAGE_BYTES = 8 * 2**20
DEADLINES = Deadlines(connect_s=2.0, first_byte_s=5.0)


async def get_page(transport: Transport, path: str) -> tuple[int, bytes]:
    """Get a page; returns its status and body.

    Raises UpstreamError, also when it is too long; OutOfFiles, which says nothing of the backend.
    """
    response = await transport.open("GET", path, {}, b"", DEADLINES)
    body = bytearray()
    try:
        while piece := await response.read(DEADLINES.first_byte_s):
            body += piece
            if len(body) > MAX_PAGE_BYTES:
                raise BadUpstreamAnswer(f"the backend's {path} is too long")
    finally:
        await response.close()
    return response.status, bytes(body)
