"""Every request that reached a decision leaves a line from which the decision can be made again."""

from __future__ import annotations

from pathlib import Path

from gateway.ledger.decision_records import DecisionRecord, LogReading, replay_decision
from tests.fakes.backend import completion, says, then_hangs
from tests.faults.conftest import stage_with


async def test_a_request_is_logged_with_its_outcome_and_replays(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    async with stage_with(extra={"decision_log": {"path": str(path)}}, first_token_s=0.3) as stage:
        stage.first.will(then_hangs())
        stage.second.will(says(completion("Hi")))
        answer = await stage.ask(routing={"weights": {"cost": 0.25}, "min_quality": 0.1})
        assert answer.status_code == 200
        live = stage.parts.ledger.recent[-1]
    (record,) = LogReading(path)
    assert isinstance(record, DecisionRecord)
    assert (record.chosen, record.served, record.outcome) == ("first", "second", "ok")
    assert record.request_id == answer.headers["x-request-id"]
    assert record.flags.weights == {"cost": 0.25}
    assert record.usage == live.usage
    assert record.cost_usd == live.cost_nanos / 1e9
    assert replay_decision(record).order == record.order
    assert record.prompt is None


async def test_prompts_are_written_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    settings = {"path": str(path), "prompts": True}
    async with stage_with(extra={"decision_log": settings}) as stage:
        stage.first.will(says(completion("Hi")))
        await stage.ask()
    (record,) = LogReading(path)
    assert isinstance(record, DecisionRecord)
    assert record.prompt == "Hi"
