"""Pieces of a body, handed on as they come: all of them, in order, within the times allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.errors import BadUpstreamAnswer, ClientGone, FirstByteTimeout
from gateway.settings import Backend
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.transport import Transport, UpstreamResponse, open_transport
from tests.fakes.backend import (
    END_OF_STREAM,
    STREAM_HEAD,
    Connection,
    ScriptedBackend,
    chunked,
    says,
    scripted_backend,
    then_closes,
    then_hangs,
    then_resets,
)

SOON = Deadlines(connect_s=0.5, first_byte_s=0.3)


class Taken:
    """Takes whatever comes; ``wants`` says whether more is wanted after so many pieces."""

    def __init__(self, wants: Callable[[int], bool] = lambda _: True) -> None:
        self.pieces: list[bytes] = []
        self.chunks: list[bytes] = []
        self._wants = wants

    def take(self, piece: bytes) -> bool:
        self.pieces.append(piece)
        return self._wants(len(self.pieces))

    def take_chunk(self, data: bytes) -> bool | None:
        self.chunks.append(data)
        return None


@pytest.fixture
async def backend() -> AsyncIterator[ScriptedBackend]:
    async with scripted_backend() as made:
        yield made


@pytest.fixture(params=["lean", "httpx2"])
async def client(
    backend: ScriptedBackend, request: pytest.FixtureRequest
) -> AsyncIterator[Transport]:
    made = open_transport(Backend(url=backend.url, transport=request.param))
    yield made
    await made.close()


async def open_one(client: Transport) -> UpstreamResponse:
    return await client.open("POST", "/x", {}, b"{}", SOON)


def one_by_one(*pieces: bytes, pause_s: float = 0.02) -> Callable[[Connection], object]:
    async def act(connection: Connection) -> None:
        for piece in pieces:
            await connection.write(piece)
            await asyncio.sleep(pause_s)

    return act


PIECES = [b"%d" % i * 40 for i in range(6)]


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
async def test_every_piece_is_handed_on_in_order(
    backend: ScriptedBackend, client: Transport, pause_s: float
) -> None:
    chunks = [chunked(piece) for piece in PIECES]
    halves = [half for chunk in chunks for half in (chunk[:7], chunk[7:])]
    for parts in (chunks, halves, [b"".join(chunks)]):
        backend.scripts.clear()
        backend.will(one_by_one(STREAM_HEAD, *parts, END_OF_STREAM, pause_s=pause_s))
        response, taken = await open_one(client), Taken()
        await response.pass_on(taken, 0.3, 2.0)
        await response.close()
        assert b"".join(taken.pieces) == b"".join(PIECES)
        assert not {chunk[7:] for chunk in chunks} & set(taken.chunks)


async def test_who_wants_no_more_is_handed_no_more_until_it_asks_again(
    backend: ScriptedBackend, client: Transport
) -> None:
    backend.will(one_by_one(STREAM_HEAD, *(chunked(piece) for piece in PIECES), END_OF_STREAM))
    response, taken = await open_one(client), Taken(lambda count: count % 2 == 0)
    rounds = 0
    while b"".join(taken.pieces) != b"".join(PIECES):
        before = len(taken.pieces)
        await response.pass_on(taken, 0.3, 2.0)
        assert len(taken.pieces) - before in (1, 2)
        await asyncio.sleep(0.01)
        rounds += 1
    await response.pass_on(taken, 0.3, 2.0)
    await response.close()
    assert rounds >= 3


async def test_a_pause_may_last_as_long_as_is_allowed_and_no_longer(
    backend: ScriptedBackend, client: Transport
) -> None:
    slow = one_by_one(STREAM_HEAD, *(chunked(piece) for piece in PIECES), pause_s=0.1)

    async def act(connection: Connection) -> None:
        await slow(connection)
        await connection.wait_until_client_leaves()

    backend.will(act)
    response, taken = await open_one(client), Taken()
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(FirstByteTimeout):
        await response.pass_on(taken, 0.25, 5.0)
    assert b"".join(taken.pieces) == b"".join(PIECES)
    assert 0.6 < asyncio.get_running_loop().time() - began_s < 1.6
    await response.close()


async def test_all_of_it_may_last_as_long_as_is_allowed_and_no_longer(
    backend: ScriptedBackend, client: Transport
) -> None:
    backend.will(one_by_one(STREAM_HEAD, *(chunked(b"x") for _ in range(100))))
    response, taken = await open_one(client), Taken()
    with pytest.raises(TimeoutError):
        await response.pass_on(taken, 0.3, 0.25)
    assert 3 < len(taken.pieces) < 50
    await response.close()


@pytest.mark.parametrize(
    "act",
    [
        then_resets(STREAM_HEAD, chunked(b"a")),
        then_closes(STREAM_HEAD, chunked(b"a"), b"5\r\nab"),
        then_hangs(STREAM_HEAD, chunked(b"a"), b"zz\r\n"),
    ],
    ids=["reset", "cut", "no chunk"],
)
async def test_what_breaks_off_is_told(
    backend: ScriptedBackend, client: Transport, act: Callable[[Connection], object]
) -> None:
    backend.will(act)
    with pytest.raises(BadUpstreamAnswer):  # which may come as soon as the head
        await (await open_one(client)).pass_on(Taken(), 0.3, 2.0)


async def test_an_error_of_who_takes_is_raised_and_ends_the_exchange(
    backend: ScriptedBackend, client: Transport
) -> None:
    def leave(count: int) -> bool:
        if count == 3:
            raise ClientGone
        return True

    backend.will(one_by_one(STREAM_HEAD, *(chunked(piece) for piece in PIECES), END_OF_STREAM))
    response, taken = await open_one(client), Taken(leave)
    with pytest.raises(ClientGone):
        await response.pass_on(taken, 0.3, 2.0)
    await response.close()
    assert len(taken.pieces) == 3


async def test_a_connection_serves_again_after_a_body_that_was_handed_on(
    backend: ScriptedBackend, client: Transport
) -> None:
    backend.will(says(STREAM_HEAD, chunked(b"a", b"b"), END_OF_STREAM))
    for _ in range(3):
        response, taken = await open_one(client), Taken()
        await response.pass_on(taken, 0.3, 2.0)
        await response.close()
        assert b"".join(taken.pieces) == b"ab"
    assert len(backend.requests) == 3
