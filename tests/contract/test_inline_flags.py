"""Flags inside a prompt are read only for whom it is permitted, and then no model sees them."""

from __future__ import annotations

from pathlib import Path

import httpx2

from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.fakes.backend import completion, says
from tests.faults.conftest import Stage, stage_with

FLAGGED = [{"role": "user", "content": "Hi [Flag: models-deny=first]"}]
CLEAN = [{"role": "user", "content": "Hi"}]


async def ask(stage: Stage, key: str = "k") -> httpx2.Response:
    stage.first.will(says(completion()))
    stage.second.will(says(completion()))
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "auto", "messages": FLAGGED}
    return await stage.client.post("/v1/chat/completions", json=body, headers=headers)


async def test_they_are_text_like_any_other_unless_permitted() -> None:
    async with stage_with() as stage:
        assert (await ask(stage)).headers["x-routing-model"] == "first"
        assert stage.first.requests[0].body["messages"] == FLAGGED


async def test_an_open_gateway_may_permit_them_to_all() -> None:
    async with stage_with(extra={"auth": {"inline_flags": True}}) as stage:
        assert (await ask(stage)).headers["x-routing-model"] == "second"
        assert stage.second.requests[0].body["messages"] == CLEAN
        await stage.census()


async def test_a_key_permits_them_to_its_holder(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.db")
    (may, key), (may_not, other) = (
        make_key("x", KeyPolicy(inline_flags=permits), 0) for permits in (True, False)
    )
    keys.add(key)
    keys.add(other)
    extra = {"auth": {"mode": "keys", "keys": str(keys.path)}}
    async with stage_with(extra=extra) as stage:
        assert (await ask(stage, may)).headers["x-routing-model"] == "second"
        assert (await ask(stage, may_not)).headers["x-routing-model"] == "first"


async def test_one_that_is_not_understood_is_a_400() -> None:
    async with stage_with(extra={"auth": {"inline_flags": True}}) as stage:
        messages = [{"role": "user", "content": "Hi [Flag: nicest]"}]
        answer = await stage.ask(messages=messages)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "messages"
