"""A real gateway before scripted backends, asked by the real SDKs of each API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.fakes.backend import DONE, USAGE, Act, event, json_answer, says, streams
from tests.faults.conftest import Stage, stage_with


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Both models only chat: what is asked in other words is put into chat's."""
    async with stage_with(first_token_s=0.5, idle_s=0.3, send_s=0.5) as made:
        yield made
        await made.census()


@asynccontextmanager
async def native_stage(*endpoints: str) -> AsyncIterator[Stage]:
    """Both models speak these endpoints themselves."""
    async with stage_with(endpoints=endpoints, first_token_s=0.5, idle_s=0.3) as made:
        yield made
        await made.census()


@asynccontextmanager
async def openai_client(stage: Stage) -> AsyncIterator[AsyncOpenAI]:
    url = f"http://127.0.0.1:{stage.port}/v1"
    async with AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        yield client


@asynccontextmanager
async def anthropic_client(stage: Stage) -> AsyncIterator[AsyncAnthropic]:
    url = f"http://127.0.0.1:{stage.port}"
    async with AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
        yield client


def chat_answer(finish_reason: str = "stop", **message: Any) -> Act:
    """A whole chat answer with this message."""
    return says(
        json_answer(
            {
                "id": "c1",
                "object": "chat.completion",
                "model": "served-name",
                "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
                "usage": {
                    **USAGE,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 1},
                },
            }
        )
    )


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    """One chat chunk with this delta."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "served-name"}
    return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"


def call_piece(index: int, arguments: str, **head: Any) -> dict[str, Any]:
    """A piece of a tool call as a delta holds it."""
    name = {"name": head.pop("name")} if "name" in head else {}
    return {"index": index, **head, "function": {"arguments": arguments, **name}}


#: A thought, words, and two calls, as an engine streams them.
RICH = (
    delta(role="assistant", content=""),
    delta(reasoning_content="Hm"),
    delta(reasoning_content="m."),
    delta(content="Let me "),
    delta(content="look."),
    delta(tool_calls=[call_piece(0, "", id="call_a", type="function", name="weather")]),
    delta(tool_calls=[call_piece(0, '{"city":')]),
    delta(tool_calls=[call_piece(0, '"Bern"}')]),
    delta(tool_calls=[call_piece(1, '{"city":"Rome"}', id="call_b", name="weather")]),
    delta("tool_calls"),
    event(usage=USAGE),
    DONE,
)
RICH_STREAM = streams(*RICH)


def named_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream with names; every one must have a name and one line of data."""
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    events = []
    for block in blocks:
        name, data = block.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert name == f"event: {document['type']}"
        events.append((document["type"], document))
    return events
