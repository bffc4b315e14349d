"""Many at once: at a backend that comes back, after a network that was gone, with unknown keys."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from gateway.upstream.health import FAILURES_TO_OPEN
from tests.fakes.backend import (
    WHOLE,
    Connection,
    completion,
    json_answer,
    says,
    streams,
)
from tests.faults.conftest import ASK, Stage, eventually, stage_with

HERD = 200


async def test_one_request_finds_out_whether_a_backend_is_back(stage: Stage) -> None:
    down = says(json_answer({"error": {"message": "down"}}, 500))
    stage.first.will(down)
    stage.second.will(says(completion()))
    for _ in range(FAILURES_TO_OPEN):
        await stage.ask()
    (handle,) = stage.parts.catalog.models["first"].backends
    assert not handle.health.is_usable(stage.parts.clock.monotonic_s())
    asked = len(stage.first.requests)

    answered = asyncio.Event()

    async def comes_back(connection: Connection) -> None:
        await answered.wait()
        await says(completion())(connection)

    stage.first.scripts.clear()
    stage.first.will(comes_back)
    handle.health._closed_until_s = 0.0  # its pause is over
    herd = [asyncio.create_task(stage.ask()) for _ in range(20)]
    await eventually(lambda: sum(task.done() for task in herd) == 19, 10)
    assert len(stage.first.requests) - asked == 1, "the others do not wait for it"
    answered.set()
    models = Counter([(await task).headers["x-routing-model"] for task in herd])
    assert models == {"first": 1, "second": 19}
    after = await asyncio.gather(*(stage.ask() for _ in range(20)))
    assert {answer.headers["x-routing-model"] for answer in after} == {"first"}


async def test_everybody_at_once_with_the_same_prompt_is_answered() -> None:
    async with stage_with(extra={"router": {"artifact": "default"}}) as stage:
        stage.first.will(streams(*WHOLE))
        stage.second.will(streams(*WHOLE))
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{stage.port}", trust_env=False, timeout=30, limits=limits
        ) as crowd:
            body = {**ASK, "stream": True}
            answers = await asyncio.gather(
                *(crowd.post("/v1/chat/completions", json=body) for _ in range(HERD))
            )
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)
        assert len(stage.parts.ledger.recent) == HERD
        await stage.census()


async def test_all_connections_drop_and_come_back_at_once() -> None:
    """Three times over: whoever asks is answered, and each request has its row."""
    body = json.dumps(ASK).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"

    async def connect_ask_and_drop(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head % len(body) + body)
        line = await asyncio.wait_for(reader.readline(), 20)
        writer.transport.abort()
        return line

    async with stage_with() as stage:
        stage.first.will(says(completion()))
        stage.second.will(says(completion()))
        rows = stage.parts.ledger.recent
        for wave in range(1, 4):
            lines = await asyncio.gather(
                *(connect_ask_and_drop(stage.port) for _ in range(HERD // 2))
            )
            assert {line.split()[1] for line in lines} == {b"200"}
            await eventually(lambda: len(rows) == wave * HERD // 2, 10)  # noqa: B023
        assert {row.outcome for row in rows} == {"ok"}
        await stage.census()


async def test_keys_that_nobody_knows_cost_no_look_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five hundred well-formed keys: they are looked for in memory, and nothing of them is kept."""
    reads = 0
    real = KeyFile.read

    def counted(file: KeyFile) -> object:
        nonlocal reads
        reads += 1
        return real(file)

    monkeypatch.setattr(KeyFile, "read", counted)
    auth = {"mode": "keys", "keys": str(tmp_path / "keys.db")}
    async with stage_with(extra={"auth": auth}) as stage:
        before = reads
        cold = [make_key("cold", KeyPolicy(), 0.0)[0] for _ in range(500)]

        async def knock(token: str) -> int:
            headers = {"authorization": f"Bearer {token}"}
            answer = await stage.client.post("/v1/chat/completions", json=ASK, headers=headers)
            return answer.status_code

        for start in range(0, 500, 50):
            statuses = await asyncio.gather(*map(knock, cold[start : start + 50]))
            assert set(statuses) == {401}
        assert reads - before <= 15, "one every two seconds, whoever knocks"
        assert stage.first.requests == []
        await stage.census()
