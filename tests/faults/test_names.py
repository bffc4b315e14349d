"""A backend's name: slow to resolve, leading elsewhere from one moment to the next, or astray."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.backend import WHOLE, completion, says, scripted_backend, streams
from tests.faults.test_network import expect_second, stage_behind

NAME = "backend.test"
Resolver = Callable[[], list[str]]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Resolver], None]:
    """Puts a resolver in the place of the system's, for ``NAME`` alone; it may block as that does."""
    real = socket.getaddrinfo

    def install(resolver: Resolver) -> None:
        def getaddrinfo(host: Any, port: Any, *args: Any, **more: Any) -> list[Any]:
            if host not in {NAME, NAME.encode()}:
                return real(host, port, *args, **more)
            return [
                answer for address in resolver() for answer in real(address, port, *args, **more)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return install


async def longest_lag_s(stop: asyncio.Event) -> float:
    """The longest time that the event loop did nothing else, until ``stop`` is set."""
    longest_s, last_s = 0.0, time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(0.01)
        now_s = time.monotonic()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    return longest_s


async def test_a_slow_resolver_costs_the_connect_timeout_and_holds_up_nobody(
    resolve: Callable[[Resolver], None],
) -> None:
    def slowly() -> list[str]:
        time.sleep(4)
        return ["127.0.0.1"]

    resolve(slowly)
    async with stage_behind(f"http://{NAME}:9/v1") as stage:
        stop = asyncio.Event()
        lag = asyncio.ensure_future(longest_lag_s(stop))
        began_s = time.monotonic()
        await expect_second(stage, "backend_unreachable")
        assert time.monotonic() - began_s < 3
        stop.set()
        assert await lag < 2, "half of the resolver's time: it blocks a thread, not the loop"


async def test_every_connection_asks_for_the_name_anew(
    resolve: Callable[[Resolver], None],
) -> None:
    """A name that moves is followed: nothing keeps an address for longer than its connection."""
    async with scripted_backend() as before, scripted_backend(host="127.0.0.2") as after:
        addresses = ["127.0.0.2"]
        resolve(lambda: addresses)
        after.will(says(completion("from the new address")))
        async with stage_behind(f"http://{NAME}:{after.port}/v1", answer_s=2) as stage:
            answer = await stage.ask()
            assert answer.json()["choices"][0]["message"]["content"] == "from the new address"
            # The old address, where nobody listens on this port, and then the new one again.
            (handle,) = stage.parts.catalog.models["first"].backends
            await handle.transport.close()
            addresses[:] = ["127.0.0.1"]
            assert before.port != after.port
            assert (await stage.ask()).headers["x-routing-model"] == "second"
            addresses[:] = ["127.0.0.2"]
            handle.health.succeed(0.0)
            assert (await stage.ask()).headers["x-routing-model"] == "first"


async def test_the_next_address_is_tried_where_the_first_refuses(
    resolve: Callable[[Resolver], None],
) -> None:
    async with scripted_backend(host="127.0.0.2") as backend:
        resolve(lambda: ["127.0.0.1", "127.0.0.2"])
        backend.will(streams(*WHOLE))
        async with stage_behind(f"http://{NAME}:{backend.port}/v1") as stage:
            assert (await stage.stream())[-1] == "[DONE]"
            assert stage.second.requests == []


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::a9fe:a9fe", "fd00:ec2::254", "100.100.100.200"]
)
async def test_a_name_that_leads_to_a_clouds_credentials_is_never_connected_to(
    resolve: Callable[[Resolver], None], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Also when it led to a backend a moment ago, and when only one of its addresses is such."""
    async with scripted_backend(host="127.0.0.2") as backend:
        resolve(lambda: ["127.0.0.2", address])
        connected: list[Any] = []
        real = asyncio.get_running_loop().create_connection

        async def create_connection(factory: Any, host: Any = None, *a: Any, **more: Any) -> Any:
            connected.append(host)
            return await real(factory, host, *a, **more)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_connection", create_connection)
        async with stage_behind(f"http://{NAME}:{backend.port}/v1") as stage:
            await expect_second(stage, "backend_unreachable")
        assert address not in connected
        assert backend.requests == []
