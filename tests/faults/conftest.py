"""A real gateway on a real socket, in front of scripted backends; every test ends with a census."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import uvicorn

from gateway.app import Gateway, create_app
from gateway.config import parse_config
from gateway.parts import Parts
from gateway.server.run import uvicorn_settings
from gateway.settings import Config
from gateway.upstream.lean import LeanClient
from tests.fakes.backend import ScriptedBackend, scripted_backend

ASK = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}


async def eventually(holds: Callable[[], bool], limit_s: float = 2.0) -> None:
    """Wait until a condition holds; fail the test when it does not in time."""
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in code that sets no event
            await asyncio.sleep(0.005)


@dataclass
class Stage:
    """The gateway under test, its client, and the backends of model ``first`` and ``second``."""

    gateway: Gateway
    client: httpx2.AsyncClient
    port: int
    first: ScriptedBackend
    second: ScriptedBackend
    #: Tasks that live as long as the gateway.
    standing_tasks: int = 1

    @property
    def parts(self) -> Parts:
        return self.gateway.parts

    async def ask(self, **fields: Any) -> httpx2.Response:
        return await self.client.post("/v1/chat/completions", json={**ASK, **fields})

    async def stream(self, **fields: Any) -> list[str]:
        """The data of every event of a streamed answer, in order."""
        answer = await self.ask(stream=True, **fields)
        assert answer.status_code == 200, answer.text
        blocks = answer.text.split("\n\n")
        assert blocks.pop() == ""
        assert all(block.startswith("data: ") for block in blocks)
        return [block.removeprefix("data: ") for block in blocks]

    async def census(self) -> None:
        """Nothing may be left of any request: no permit, record, count, task or busy socket."""
        admission = self.parts.pipeline.admission
        await eventually(lambda: admission.inflight == 0)
        await eventually(lambda: len(self.parts.tasks) == self.standing_tasks)
        assert self.parts.ledger.open_reservations == 0
        backends = [backend for _, backend in self.parts.catalog.backends]
        assert all(backend.health.inflight == 0 for backend in backends)
        lean = [b.transport for b in backends if isinstance(b.transport, LeanClient)]
        await eventually(lambda: not any(transport._busy for transport in lean))
        decisions = [row.decision_id for row in self.parts.ledger.recent]
        assert len(decisions) == len(set(decisions)), "one row for each request"


@asynccontextmanager
async def gateway_of(config: Config) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway that serves in this event loop, and its port."""
    gateway = create_app(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(**uvicorn_settings(config.server, gateway)))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        await eventually(lambda: server.started)
        try:
            yield gateway, listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def stage_with(
    twin: str | None = None,
    endpoints: Sequence[str] = ("chat", "completions"),
    extra: dict[str, Any] | None = None,
    backend: dict[str, Any] | None = None,
    first_model: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
    **timeouts: float,
) -> AsyncIterator[Stage]:
    """``twin`` is the address of a second backend of model ``first``.

    ``extra``, ``backend``, ``first_model`` and ``second`` say more of the configuration, of the first
    backend of model ``first``, and of the two models.
    """
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(scripted_backend())
        other = await stack.enter_async_context(scripted_backend())
        price = {"input": 1.0, "output": 2.0}
        twins = [] if twin is None else [{"url": twin}]
        config = parse_config(
            {
                "server": {"drain_s": 1},
                "router": {"artifact": "none"},
                "timeouts": timeouts,
                **(extra or {}),
                "models": {
                    "first": {
                        "backends": [
                            {"url": first.url, "model": "served-name", **(backend or {})},
                            *twins,
                        ],
                        "price_usd_per_mtok": price,
                        "quality_prior": 0.9,
                        "endpoints": list(endpoints),
                        **(first_model or {}),
                    },
                    "second": {
                        "backends": [{"url": other.url}],
                        "price_usd_per_mtok": price,
                        "quality_prior": 0.5,
                        "endpoints": list(endpoints),
                        **(second or {}),
                    },
                },
            },
            "the test",
        )
        gateway, port = await stack.enter_async_context(gateway_of(config))
        client = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10)
        )
        yield Stage(gateway, client, port, first, other, len(gateway.parts.tasks))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Short deadlines, so that a test of one need not wait for it."""
    async with stage_with(first_token_s=0.5, answer_s=0.5, idle_s=0.3, send_s=0.5) as made:
        yield made
        await made.census()
