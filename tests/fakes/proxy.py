"""A TCP proxy that spoils what a backend sends, in the words of toxiproxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Toxics:
    """What happens to the bytes from the backend, on every connection."""

    #: ``slicer``: pass on at most so many bytes at a time.
    slice_bytes: int = 65536
    #: ``latency``: wait before each piece.
    latency_s: float = 0.0
    #: After so many bytes: ``reset_peer``, ``limit_data`` (close) or ``timeout`` (hang).
    limit_bytes: int | None = None
    then: str = "reset_peer"


@dataclass
class FaultProxy:
    port: int
    toxics: Toxics = field(default_factory=Toxics)
    #: Bytes of each connection that were passed on to the client.
    passed: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed.append(0)
        index = len(self.passed) - 1
        while data := await reader.read(65536):
            while data:
                if await self._is_spent(index, writer):
                    return
                size = self._next_size(index)
                await asyncio.sleep(self.toxics.latency_s)
                writer.write(data[:size])
                await writer.drain()
                self.passed[index] += len(data[:size])
                data = data[size:]
        if not await self._is_spent(index, writer):
            writer.close()

    def _next_size(self, index: int) -> int:
        limit = self.toxics.limit_bytes
        size = self.toxics.slice_bytes
        return size if limit is None else min(size, limit - self.passed[index])

    async def _is_spent(self, index: int, writer: asyncio.StreamWriter) -> bool:
        limit = self.toxics.limit_bytes
        if limit is None or self.passed[index] < limit:
            return False
        if self.toxics.then == "reset_peer":
            writer.transport.abort()
        elif self.toxics.then == "limit_data":
            writer.close()
        else:
            await asyncio.Event().wait()
        return True


@asynccontextmanager
async def fault_proxy(backend_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy before the backend at this port; it ends with all its connections."""
    tasks: set[asyncio.Task[None]] = set()
    proxy = FaultProxy(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", backend_port)
        both = [
            asyncio.ensure_future(proxy._up(reader, back_writer)),
            asyncio.ensure_future(proxy._down(back_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.transport.abort()
            back_writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
