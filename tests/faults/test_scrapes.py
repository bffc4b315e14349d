"""Metrics while there is traffic: quick to tell, and no request makes them longer."""

from __future__ import annotations

import asyncio
import time

from tests.fakes.backend import STREAM_HEAD, Connection, chunked, completion, event, says
from tests.faults.conftest import Stage, eventually, stage_with


def series(text: str) -> set[str]:
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}


async def scrape(stage: Stage) -> str:
    answer = await stage.client.get("/metrics")
    assert answer.status_code == 200
    return answer.text


async def test_names_that_callers_make_up_make_no_new_series(stage: Stage) -> None:
    stage.first.will(says(completion()))

    async def make_up(index: int) -> None:
        ask = {"model": f"made-up-{index}", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {
            "x-request-id": f"made-up-{index}",
            "x-routing-session-id": f"made-up-{index}",
            "user-agent": f"made-up-{index}",
        }
        await stage.client.post("/v1/chat/completions", json=ask, headers=headers)
        known = {**ask, "model": "auto", "user": f"made-up-{index}"}
        await stage.client.post("/v1/chat/completions", json=known, headers=headers)
        await stage.client.get(f"/made-up-{index}", headers=headers)
        await stage.client.post("/v1/route", json={**ask, "model": f"auto:made-up-{index}"})

    await make_up(-1)
    before = series(await scrape(stage))
    for index in range(60):
        await make_up(index)
    after = series(await scrape(stage))
    assert after - before == set()
    assert not [name for name in after if "made-up" in name]


async def test_a_scrape_among_open_streams_is_quick() -> None:
    async def drips(connection: Connection) -> None:
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        await connection.write(STREAM_HEAD)
        while not leaving.done():
            connection.writer.write(chunked(event("a")))
            await asyncio.wait({leaving}, timeout=0.1)

    async with stage_with() as stage:
        stage.first.will(drips)
        streams = [asyncio.create_task(stage.ask(stream=True)) for _ in range(50)]
        await eventually(lambda: len(stage.first.requests) == 50, 10)
        took_s = []
        for _ in range(10):
            began_s = time.monotonic()
            text = await scrape(stage)
            took_s.append(time.monotonic() - began_s)
            assert "thalamus_inflight 50" in text
        assert sorted(took_s)[5] < 0.2
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await stage.census()
