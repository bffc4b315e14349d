"""The seam between the gateway and the network: what is sent to a backend, what comes back.

Two transports stand behind it. ``lean`` is our own client for the data path; ``httpx2`` is a full
HTTP client for what needs one (proxies, unusual TLS). No other file imports an HTTP client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import httpx2

from gateway.errors import BadUpstreamAnswer, ConnectFailed, FirstByteTimeout, OutOfFiles
from gateway.open_files import are_spent
from gateway.settings import Backend
from gateway.strands import in_task
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.lean import NO_FILES, LeanClient
from gateway.upstream.passing import Taker, pass_read


class UpstreamResponse(Protocol):
    """An open answer: status and headers are known, the body is read piece by piece.

    Whoever holds it calls ``close`` once; closing early ends the exchange at the backend.
    """

    status: int
    #: Lower-case names.
    headers: Mapping[str, str]

    def take_whole(self) -> bytes | None:
        """Return all of the body where it has arrived already, else None: then ``read`` it."""

    async def read(self, timeout_s: float) -> bytes:
        """Return the next piece of the body, b"" at its end.

        Raises FirstByteTimeout when nothing comes in time, BadUpstreamAnswer when it breaks off.
        """

    async def pass_on(self, taker: Taker, idle_s: float, within_s: float) -> None:
        """Hand ``taker`` every piece as it comes, until it wants no more for now or the body has ended.

        Raises TimeoutError when that is not so within ``within_s``; else as ``read`` does, where
        ``idle_s`` is the longest time without a piece. What it raises is raised here, too.
        """

    async def close(self) -> None: ...


class Transport(Protocol):
    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadlines: Deadlines
    ) -> UpstreamResponse:
        """Send a request and wait for the answer's head.

        Raises ConnectFailed, StaleConnection, FirstByteTimeout or BadUpstreamAnswer; OutOfFiles,
        which is no fault of the backend.
        """

    async def close(self) -> None: ...


def open_transport(backend: Backend, *, has_x_api_key: bool = False) -> Transport:
    """Return the transport that a backend's configuration asks for.

    ``has_x_api_key`` sends the key in Anthropic's header, too.
    """
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if backend.api_key is not None:
        headers["authorization"] = f"Bearer {backend.api_key.get_secret_value()}"
        if has_x_api_key:
            headers["x-api-key"] = backend.api_key.get_secret_value()
    if backend.transport == "lean":
        return LeanClient(backend.address, headers)
    return Httpx2Transport(backend.address, headers)


class Httpx2Transport:
    """A full HTTP client behind the same seam."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self._base_url = base_url
        # Queueing belongs to admission: a pool that queues leaks under cancellation.
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=3.0)
        self._client = httpx2.AsyncClient(
            headers=dict(headers), limits=limits, follow_redirects=False, timeout=None
        )

    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadlines: Deadlines
    ) -> UpstreamResponse:
        request = self._client.build_request(
            method,
            self._base_url + path,
            headers=dict(headers),
            content=body,
            timeout=httpx2.Timeout(deadlines.first_byte_s, connect=deadlines.connect_s),
        )
        await in_task()
        try:
            async with asyncio.timeout(deadlines.connect_s + deadlines.first_byte_s):
                response = await self._client.send(request, stream=True)
        except httpx2.ConnectTimeout as error:
            raise ConnectFailed("the backend did not accept the connection in time") from error
        except httpx2.ConnectError as error:
            if are_spent():
                raise OutOfFiles(NO_FILES) from error
            raise ConnectFailed("the backend cannot be reached") from error
        except (httpx2.TimeoutException, TimeoutError) as error:
            raise FirstByteTimeout("the backend did not begin to answer in time") from error
        except httpx2.HTTPError as error:
            raise BadUpstreamAnswer("the backend's answer is not HTTP") from error
        return _Httpx2Response(response)

    async def close(self) -> None:
        await self._client.aclose()


class _Httpx2Response:
    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {k.lower(): v for k, v in response.headers.items()}
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.aiter_raw()

    def take_whole(self) -> bytes | None:
        return None

    async def read(self, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(self._pieces, b"")
        except TimeoutError as error:
            raise FirstByteTimeout("the backend stopped sending") from error
        except httpx2.HTTPError as error:
            raise BadUpstreamAnswer("the backend's answer broke off") from error

    async def pass_on(self, taker: Taker, idle_s: float, within_s: float) -> None:
        await pass_read(self.read, taker, idle_s, within_s)

    async def close(self) -> None:
        # A cancelled close would leave the connection in the pool, counted and dead.
        await asyncio.shield(self._response.aclose())
