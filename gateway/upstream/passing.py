"""Pieces of an answer's body, handed on in the callback that brings them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.errors import FirstByteTimeout


class Taker(Protocol):
    """Who is handed pieces; both return whether the next one is wanted at once."""

    def take(self, piece: bytes) -> bool: ...

    def take_chunk(self, data: bytes) -> bool | None:
        """Take what may be one whole chunk of the body, still framed; None: it was not taken."""


async def pass_read(
    read: Callable[[float], Awaitable[bytes]], taker: Taker, idle_s: float, within_s: float
) -> None:
    """``UpstreamResponse.pass_on`` for a response that can only be read."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + within_s
    while True:
        remaining_s = ends_s - loop.time()
        if remaining_s <= 0:
            raise TimeoutError
        try:
            piece = await read(min(idle_s, remaining_s))
        except FirstByteTimeout as error:
            if remaining_s < idle_s:
                raise TimeoutError from error
            raise
        if not piece or not taker.take(piece):
            return
