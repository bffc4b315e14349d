"""Ask every backend now and then whether it lives, so that requests need not find out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from gateway.errors import UNREADABLE_JSON, OutOfFiles, UpstreamError
from gateway.upstream.backend import BackendHandle
from gateway.upstream.pages import get_page

PROBE_EVERY_S = 5.0


async def probe_forever(backends: Sequence[BackendHandle]) -> None:
    """Probe until cancelled. Models that share a server share its probe."""
    by_transport: dict[int, list[BackendHandle]] = {}
    for backend in backends:
        by_transport.setdefault(id(backend.transport), []).append(backend)
    while True:
        await asyncio.gather(*(_probe(group) for group in by_transport.values()))
        await asyncio.sleep(PROBE_EVERY_S)


async def _probe(group: list[BackendHandle]) -> None:
    try:
        status, body = await get_page(group[0].transport, "/models")
    except OutOfFiles:
        return
    except UpstreamError:
        status, body = 0, b""
    # An error status is an answer, a 5xx is not.
    answered = 0 < status < 500
    listed = _listed(body) if status == 200 else frozenset()
    for backend in group:
        backend.health.probe(answered=answered)
        if listed:
            backend.health.note_listed(is_listed=backend.served_model in listed)


class _Entry(msgspec.Struct):
    id: str = ""


class _Listing(msgspec.Struct):
    data: list[_Entry] = []


_listings = msgspec.json.Decoder(_Listing)


def _listed(body: bytes) -> frozenset[str]:
    """The names that a server lists; none where that is no list of models."""
    try:
        return frozenset(entry.id for entry in _listings.decode(body).data)
    except UNREADABLE_JSON:
        return frozenset()
