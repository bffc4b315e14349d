"""A conversation stays with its model, where the flags let it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.decision_records import DecisionRecord, LogReading, replay_decision
from tests.fakes.backend import completion, json_answer, says
from tests.faults.conftest import Stage, stage_with

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
ASK = {"role": "user", "content": "What is the weather?"}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
]}  # fmt: skip
RESULT = {"role": "tool", "tool_call_id": "1", "content": "rain"}


def refuses_once(stage: Stage) -> None:
    """The better model fails the first time, so that the other one answers it."""
    stage.first.will(says(json_answer({"error": {"message": "busy"}}, 503)), says(completion()))
    stage.second.will(says(completion()))


async def model_of(stage: Stage, **fields: Any) -> str:
    answer = await stage.ask(**fields)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-routing-model"]


async def test_a_loop_of_tool_calls_stays_with_the_model_that_began_it(stage: Stage) -> None:
    refuses_once(stage)
    assert await model_of(stage, tools=TOOLS, messages=[ASK]) == "second"
    answer = await stage.ask(tools=TOOLS, messages=[ASK, CALL, RESULT])
    assert answer.headers["x-routing-model"] == "second"
    assert answer.headers["x-routing-reason"] == "stays with the model of the conversation"
    # The next thing the human asks is a question of its own.
    messages = [ASK, CALL, RESULT, {"role": "user", "content": "And tomorrow?"}]
    assert await model_of(stage, tools=TOOLS, messages=messages) == "first"


async def test_a_session_stays_with_its_model(stage: Stage) -> None:
    refuses_once(stage)
    assert await model_of(stage, routing={"session_id": "s"}) == "second"
    other = [{"role": "user", "content": "Something else"}]
    assert await model_of(stage, routing={"session_id": "s"}, messages=other) == "second"
    assert await model_of(stage, routing={"session_id": "t"}, messages=other) == "first"
    assert await model_of(stage, messages=other) == "first"


async def test_a_session_leaves_a_model_that_breaks_a_limit_or_is_not_named(stage: Stage) -> None:
    refuses_once(stage)
    assert await model_of(stage, routing={"session_id": "s"}) == "second"
    assert await model_of(stage, routing={"session_id": "s", "min_quality": 0.8}) == "first"
    assert await model_of(stage, model="second", routing={"session_id": "s"}) == "second"
    assert await model_of(stage, model="first", routing={"session_id": "s"}) == "first"


async def test_what_the_model_has_cached_makes_it_cheaper_to_stay(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    price = {"price_usd_per_mtok": {"input": 1.0, "output": 2.0, "cached_input": 0.0}}
    log = {"decision_log": {"path": str(path)}}
    async with stage_with(extra=log, second=price) as stage:
        refuses_once(stage)
        long = [{"role": "user", "content": "word " * 4_000}]
        for _ in range(2):
            await model_of(stage, messages=long, routing={"session_id": "s"}, max_tokens=1)
    first, second = (r for r in LogReading(path) if isinstance(r, DecisionRecord))
    costs = [
        next(c.cost_usd for c in record.candidates if c.model == "second")
        for record in (first, second)
    ]
    assert costs[0] == pytest.approx(5_010e-6, rel=0.01)
    assert costs[1] == pytest.approx(2e-6, rel=0.5)
    assert second.stay_with == "second"
    assert replay_decision(second).order == second.order
    assert time.time() - second.at_s < 60
