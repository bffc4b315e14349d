"""When the gateway is full, who is turned away first."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.contract.test_keys import Pause
from tests.fakes.backend import completion, says
from tests.faults.conftest import Stage, stage_with

FULL = {"max_inflight": 4, "low_share": 0.5, "normal_share": 0.75, "drain_s": 1}


async def asked(stage: Stage, **headers: str) -> int:
    body = {"model": "second", "messages": [{"role": "user", "content": "Hi"}]}
    answer = await stage.client.post("/v1/chat/completions", json=body, headers=headers)
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "1"
        assert "in flight, the limit for" in answer.json()["error"]["message"]
    return answer.status_code


async def test_low_priority_is_turned_away_before_normal_and_normal_before_high(
    tmp_path: Path,
) -> None:
    file = KeyFile(tmp_path / "keys.db")
    keys: dict[str, dict[str, str]] = {}
    for priority in ("low", "normal", "high"):
        token, key = make_key(priority, KeyPolicy(priority=priority), time.time())
        file.add(key)
        keys[priority] = {"authorization": f"Bearer {token}"}
    extra: dict[str, Any] = {"server": FULL, "auth": {"mode": "keys", "keys": str(file.path)}}
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(stage_with(extra=extra, first_token_s=5))
        stage.second.will(says(completion()))
        stage.client.headers.update(keys["high"])
        pauses: list[tuple[Pause, asyncio.Task[list[str]]]] = []
        for inflight, expected in enumerate(
            ([200] * 3, [200] * 3, [503, 200, 200], [503, 503, 200])
        ):
            if inflight:
                pause = Pause()
                stage.first.scripts.clear()
                stage.first.will(pause)
                pauses.append((pause, asyncio.create_task(stage.stream(model="first"))))
                await asyncio.wait_for(pause.reached.wait(), 3)
            found = [await asked(stage, **keys[p]) for p in ("low", "normal", "high")]
            assert found == expected, inflight
        # A caller may say that it can wait, and never that it cannot.
        assert await asked(stage, **keys["high"], **{"x-priority": "low"}) == 503
        assert await asked(stage, **keys["low"], **{"x-priority": "high"}) == 503
        for pause, asking in pauses:
            pause.over.set()
            assert (await asking)[-1] == "[DONE]"
        assert await asked(stage, **keys["low"]) == 200
        await stage.census()


async def test_what_is_no_priority_is_refused() -> None:
    async with stage_with() as stage:
        stage.second.will(says(completion()))
        assert await asked(stage, **{"x-priority": "urgent"}) == 400
        assert await asked(stage, **{"x-priority": "low"}) == 200
