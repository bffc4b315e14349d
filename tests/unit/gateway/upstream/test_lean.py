"""The lean client against bytes on a socket: framing, reuse, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import BadUpstreamAnswer, ConnectFailed, FirstByteTimeout
from gateway.upstream.connection import HIGH_WATER_BYTES
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.lean import ENDS_WITHIN_S, LeanClient, LeanResponse
from tests.fakes.backend import (
    Connection,
    ScriptedBackend,
    says,
    scripted_backend,
    then_closes,
    then_hangs,
)

SOON = Deadlines(connect_s=0.5, first_byte_s=0.3)
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def backend() -> AsyncIterator[ScriptedBackend]:
    async with scripted_backend() as made:
        yield made


@pytest.fixture
async def client(backend: ScriptedBackend) -> AsyncIterator[LeanClient]:
    made = LeanClient(backend.url, {"x-fixed": "1"})
    yield made
    await made.close()


async def open_one(client: LeanClient) -> LeanResponse:
    return await client.open("POST", "/x", {"x-own": "2"}, b"{}", SOON)


async def read_all(response: LeanResponse) -> bytes:
    pieces = []
    while piece := await response.read(0.3):
        pieces.append(piece)
    await response.close()
    return b"".join(pieces)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"content-length: 5\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello",
    ],
    ids=["length", "chunks", "after 100", "after 103"],
)
async def test_a_framed_body_is_read_and_its_connection_kept(
    backend: ScriptedBackend, client: LeanClient, answer: bytes
) -> None:
    backend.will(says(answer))
    for _ in range(2):
        response = await open_one(client)
        assert response.status == 200
        assert "link" not in response.headers
        assert await read_all(response) == b"hello"
    assert client.open_connections == 1
    assert backend.requests[1].headers.items() >= {("x-fixed", "1"), ("x-own", "2")}
    assert backend.requests[1].path == "/v1/x"


async def test_a_body_may_end_with_the_connection(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    backend.will(then_closes(OK + b"\r\nhello"))
    assert await read_all(await open_one(client)) == b"hello"
    assert client.open_connections == 0


async def test_a_short_body_is_no_whole_one(backend: ScriptedBackend, client: LeanClient) -> None:
    backend.will(then_closes(OK + b"content-length: 9\r\n\r\nhello"))
    response = await open_one(client)
    with pytest.raises(BadUpstreamAnswer):
        await read_all(response)
    await response.close()
    assert client.open_connections == 0


async def test_a_close_that_was_announced_is_kept(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    backend.will(says(OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi"))
    assert await read_all(await open_one(client)) == b"hi"
    assert client.open_connections == 0


async def test_closing_early_ends_the_exchange(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    backend.will(then_hangs(OK + b"content-length: 9\r\n\r\nhello"))
    response = await open_one(client)
    await response.close()
    await asyncio.wait_for(backend.requests[0].left.wait(), 1)
    assert client.open_connections == 0


async def test_silence_ends_at_the_deadline(backend: ScriptedBackend, client: LeanClient) -> None:
    backend.will(then_hangs(), then_hangs(OK + b"content-length: 9\r\n\r\nhello"))
    with pytest.raises(FirstByteTimeout):
        await open_one(client)
    response = await open_one(client)
    assert await response.read(0.3) == b"hello"
    with pytest.raises(FirstByteTimeout):
        await response.read(0.05)
    await response.close()
    assert client.open_connections == 0


async def test_nobody_listening() -> None:
    client = LeanClient("http://127.0.0.1:1/v1", {})
    with pytest.raises(ConnectFailed):
        await open_one(client)
    assert client.open_connections == 0


async def test_too_many_headers(backend: ScriptedBackend, client: LeanClient) -> None:
    backend.will(says(OK + b"".join(b"h%d: x\r\n" % i for i in range(500)) + b"\r\n"))
    with pytest.raises(BadUpstreamAnswer):
        await open_one(client)


async def test_a_slow_reader_slows_the_backend_instead_of_filling_memory(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    sent = 0

    async def flood(connection: Connection) -> None:
        nonlocal sent
        await connection.write(OK + b"content-length: 1000000000\r\n\r\n")
        while True:
            await connection.write(b"x" * 65536)
            sent += 65536

    backend.will(flood)
    response = await open_one(client)
    await response.read(0.3)
    settled = -1
    while settled != sent:  # until the backend is held up
        settled = sent
        await asyncio.sleep(0.1)
    # What lies in the kernel's buffers and ours; the answer itself has a gigabyte.
    assert sent < 64 * HIGH_WATER_BYTES
    assert len(await response.read(0.3)) < 4 * HIGH_WATER_BYTES
    await response.close()


async def test_an_answer_nobody_asked_for_is_not_read_as_part_of_the_one_before(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    backend.will(says(OK + b"content-length: 2\r\n\r\nhi" + OK + b"content-length: 4\r\n\r\nevil"))
    response = await open_one(client)
    assert response.headers["content-length"] == "2"
    assert await read_all(response) == b"hi"
    assert client.open_connections == 0, "what is out of step is not used again"


async def test_framing_without_body_is_silence(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    async def drip(connection: Connection) -> None:
        await connection.write(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n5;")
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        while not leaving.done():
            connection.writer.write(b"x")
            await asyncio.wait({leaving}, timeout=0.02)

    backend.will(drip)
    response = await open_one(client)
    assert await response.read(0.3) == b"hi"
    with pytest.raises(FirstByteTimeout):
        async with asyncio.timeout(2):
            await response.read(0.2)
    await response.close()


@pytest.mark.parametrize("line", [b"x: %b", b"%b: x"], ids=["value", "name"])
async def test_a_header_without_end_is_given_up_long_before_memory_ends(
    backend: ScriptedBackend, client: LeanClient, line: bytes
) -> None:
    backend.will(says(OK + line % (b"y" * 2**24) + b"\r\n\r\n"))
    with pytest.raises(BadUpstreamAnswer):
        await open_one(client)
    assert client.open_connections == 0


async def test_one_header_repeated_counts_each_time(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    backend.will(says(OK + b"h: x\r\n" * 500 + b"content-length: 0\r\n\r\n"))
    with pytest.raises(BadUpstreamAnswer):
        await open_one(client)


async def test_a_trailer_is_no_header(backend: ScriptedBackend, client: LeanClient) -> None:
    chunks = b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ncontent-type: evil\r\n\r\n"
    backend.will(says(OK + chunks))
    response = await open_one(client)
    assert await read_all(response) == b"hi"
    assert "content-type" not in response.headers


async def test_idle_connections_are_closed_once_they_are_old(
    backend: ScriptedBackend, client: LeanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.will(says(OK + b"content-length: 2\r\n\r\nhi"))
    responses = [await open_one(client) for _ in range(3)]
    for response in responses:
        await read_all(response)
    assert client.open_connections == 3
    monkeypatch.setattr("gateway.upstream.lean.IDLE_EXPIRY_S", 1e-9)
    await read_all(await open_one(client))
    assert client.open_connections <= 1
    assert len(backend.requests) == 4


async def read_first_piece(client: LeanClient) -> bytes:
    """Read no more than what came first, and let the answer go."""
    response = await open_one(client)
    piece = await response.read(0.3)
    await response.close()
    return piece


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"


async def test_an_end_that_comes_apart_from_the_last_piece_keeps_the_connection(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    async def act(connection: Connection) -> None:
        await connection.write(CHUNKED)
        await asyncio.sleep(0.01)
        await connection.write(b"0\r\n\r\n")

    backend.will(act)
    for _ in range(3):
        assert await read_first_piece(client) == b"hi"
        await asyncio.sleep(0.03)
        assert (len(client._idle), client._busy) == (1, set())
    assert len({id(request) for request in backend.requests}) == 3
    assert len(backend._sockets) == 1


@pytest.mark.parametrize(
    ("rest", "within_s"),
    [(b"", ENDS_WITHIN_S + 0.05), (b"2\r\nho\r\n", 0.03), (b"zz\r\n", 0.03)],
    ids=["nothing", "goes on", "no chunk"],
)
async def test_what_does_not_end_is_cut_off(
    backend: ScriptedBackend, client: LeanClient, rest: bytes, within_s: float
) -> None:
    async def act(connection: Connection) -> None:
        await connection.write(CHUNKED)
        await asyncio.sleep(0.005)
        await connection.write(rest)
        await connection.wait_until_client_leaves()

    backend.will(act)
    assert await read_first_piece(client) == b"hi"
    await asyncio.wait_for(backend.requests[0].left.wait(), 0.005 + within_s)
    assert client.open_connections == 0


async def test_a_server_that_closes_in_place_of_an_end_is_forgotten(
    backend: ScriptedBackend, client: LeanClient
) -> None:
    backend.will(then_closes(CHUNKED))
    assert await read_first_piece(client) == b"hi"
    await asyncio.sleep(0.02)
    assert client.open_connections == 0
