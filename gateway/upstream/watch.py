"""Read every server's own word of its load, often where it says something and seldom elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import OutOfFiles, UpstreamError
from gateway.upstream.backend import BackendHandle
from gateway.upstream.pages import get_page
from gateway.upstream.signals import Signals, read_signals
from gateway.upstream.transport import Transport

#: A reading is asked for this often, and of a server that says nothing this seldom.
EVERY_S = 1.0
SELDOM_S = 60.0


@dataclass(frozen=True, slots=True)
class WatchedServer:
    """A server that may tell its load at ``/metrics``, whom that concerns, and its own pace, if any."""

    transport: Transport
    backends: tuple[BackendHandle, ...]
    every_s: float | None = None


class Reconciliation:
    """Tokens in our ledger against those that a server says it processed, from the first reading on."""

    def __init__(self) -> None:
        self._theirs_at_first: float | None = None
        self._ours_at_first = 0
        self._theirs = 0.0

    def share(self, theirs: float, ours: int) -> float | None:
        """Ours as a share of theirs; None while there are none. A server that restarts begins anew."""
        if self._theirs_at_first is None or theirs < self._theirs:
            self._theirs_at_first, self._ours_at_first = theirs, ours
        self._theirs = theirs
        processed = theirs - self._theirs_at_first
        return (ours - self._ours_at_first) / processed if processed > 0 else None


async def watch_forever(servers: Sequence[WatchedServer], clock: Clock) -> None:
    """Read until cancelled, each server on its own beat."""
    await asyncio.gather(*(_watch(server, clock) for server in servers))


async def _watch(server: WatchedServer, clock: Clock) -> None:
    books = Reconciliation()
    while True:
        signals = await _read(server.transport)
        speaks = signals is not None and not signals.says_nothing
        if signals is not None and speaks:
            now_s = clock.monotonic_s()
            drift = None
            if signals.tokens is not None:
                booked = sum(backend.health.tokens_booked for backend in server.backends)
                drift = books.share(signals.tokens, booked)
            for backend in server.backends:
                backend.health.take_signals(signals, now_s)
                backend.health.usage_drift = drift
        has_spoken = any(backend.health.signals is not None for backend in server.backends)
        await asyncio.sleep((server.every_s or EVERY_S) if speaks or has_spoken else SELDOM_S)


async def _read(transport: Transport) -> Signals | None:
    """None when the page cannot be had: then what was read last grows old."""
    try:
        status, body = await get_page(transport, "/metrics")
    except (UpstreamError, OutOfFiles):
        return None
    return read_signals(body.decode("utf-8", "replace")) if status == 200 else None
