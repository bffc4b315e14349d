"""Ask every backend now and then whether it lives, so that requests need not find out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.errors import UpstreamError
from gateway.upstream.backend import BackendHandle
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.transport import Transport

PROBE_EVERY_S = 5.0
_DEADLINES = Deadlines(connect_s=2.0, first_byte_s=5.0)


async def probe_forever(backends: Sequence[BackendHandle]) -> None:
    """Probe until cancelled. Models that share a server share its probe."""
    by_transport: dict[int, list[BackendHandle]] = {}
    for backend in backends:
        by_transport.setdefault(id(backend.transport), []).append(backend)
    while True:
        await asyncio.gather(*(_probe(group) for group in by_transport.values()))
        await asyncio.sleep(PROBE_EVERY_S)


async def _probe(group: list[BackendHandle]) -> None:
    answered = await _answers(group[0].transport)
    for backend in group:
        backend.health.probe(answered=answered)


async def _answers(transport: Transport) -> bool:
    """Whether the backend answers at all; an error status is an answer, a 5xx is not."""
    try:
        response = await transport.open("GET", "/models", {}, b"", _DEADLINES)
    except UpstreamError:
        return False
    try:
        while await response.read(_DEADLINES.first_byte_s):
            pass
    except UpstreamError:
        return False
    finally:
        await response.close()
    return response.status < 500
