"""A thousand streams at once, half of the clients gone in their middle, a tenth of the answers cut."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, deque

import httpx2
import pytest

from gateway.ledger.accounting import LedgerRow
from tests.fakes.backend import END_OF_STREAM, STREAM_HEAD, WHOLE, Connection, chunked, event
from tests.faults.conftest import Stage, eventually, stage_with
from tests.load.client import Seen, visit

pytestmark = [pytest.mark.load, pytest.mark.timeout(240)]
CROWD = int(os.environ.get("CROWD", "1000"))
EVENTS, GAP_S = 10, 0.6
BODY = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


async def paced(connection: Connection) -> None:
    """An event now and then; every tenth answer is cut after half of them."""
    leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
    number = int(connection.request.headers["x-request-id"].removeprefix("crowd-"))
    connection.writer.write(STREAM_HEAD)
    for index in range(EVENTS):
        if leaving.done():
            return
        if number % 10 == 0 and index == EVENTS // 2:
            connection.reset()
            await leaving
            return
        connection.writer.write(chunked(event("a")))
        await asyncio.wait({leaving}, timeout=GAP_S)
    # What comes now is the next request on this connection, and not for this watch.
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    connection.writer.write(chunked(*WHOLE[1:]) + END_OF_STREAM)


async def scrapes(stage: Stage, stop: asyncio.Event) -> list[float]:
    """How long a scrape takes, now and then while the crowd is there; in seconds."""
    took_s = []
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        while not stop.is_set():
            began_s = asyncio.get_running_loop().time()
            answer = await client.get(f"http://127.0.0.1:{stage.port}/metrics")
            took_s.append(asyncio.get_running_loop().time() - began_s)
            assert answer.status_code == 200
            await asyncio.sleep(0.5)
    return took_s


async def test_a_thousand_streams_end_as_they_should_and_leave_nothing() -> None:
    rng = random.Random(11)
    leaves = {number: rng.randrange(1, EVENTS) for number in range(CROWD) if rng.random() < 0.5}
    async with stage_with(connect_s=20, first_token_s=20, idle_s=20, send_s=20) as stage:
        rows: deque[LedgerRow] = deque()
        stage.parts.ledger.recent = rows
        for backend in (stage.first, stage.second):
            backend.will(paced)
        idle = (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()))
        stop = asyncio.Event()
        watching = asyncio.ensure_future(scrapes(stage, stop))

        async def one(number: int) -> Seen:
            path = "/v1/chat/completions"
            return await visit(stage.port, path, f"crowd-{number}", BODY, leaves.get(number))

        seen = await asyncio.gather(*map(one, range(CROWD)))
        stop.set()
        took_s = sorted(await watching)
        await stage.census()
        _judge(list(seen), leaves, rows)
        assert took_s[len(took_s) // 2] < 1.0, "a scrape waits its turn, and no longer"
        await eventually(
            lambda: (
                len(os.listdir("/proc/self/fd")) <= idle[0] + 8
                and len(asyncio.all_tasks()) <= idle[1] + 4
            ),
            limit_s=20,
        )


def _judge(seen: list[Seen], leaves: dict[int, int], rows: deque[LedgerRow]) -> None:
    stayed = [told for told in seen if not told.has_left]
    assert len(stayed) >= 0.4 * CROWD
    assert {told.status for told in stayed} == {200}
    assert {told.terminals for told in stayed} == {1}
    assert {told.bytes_after_end for told in stayed} == {0}
    is_cut = {told.request_id: int(told.request_id[6:]) % 10 == 0 for told in stayed}
    assert [told for told in stayed if told.is_error != is_cut[told.request_id]] == []
    counted = Counter(row.request_id for row in rows)
    assert set(counted) == {f"crowd-{number}" for number in range(CROWD)}
    assert set(counted.values()) == {1}
    by_id = {row.request_id: row for row in rows}
    for told in stayed:
        expected = "error" if is_cut[told.request_id] else "ok"
        assert by_id[told.request_id].outcome == expected
    left = [by_id[f"crowd-{number}"].outcome for number in leaves]
    assert left.count("cancelled") > 0.8 * len(left)
