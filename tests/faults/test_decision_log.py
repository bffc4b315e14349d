"""Every request that reached a decision leaves a line from which the decision can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from gateway.cli import main
from gateway.ledger.decision_records import (
    DecisionRecord,
    FeedbackRecord,
    LogReading,
    encode_record,
    replay_decision,
)
from tests.fakes.backend import completion, says, then_hangs
from tests.faults.conftest import stage_with


async def test_a_request_is_logged_with_its_outcome_and_replays(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    async with stage_with(extra={"decision_log": {"path": str(path)}}, answer_s=0.3) as stage:
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


def decisions(path: Path) -> list[DecisionRecord]:
    return [record for record in LogReading(path) if isinstance(record, DecisionRecord)]


async def test_a_share_is_explored_and_its_chance_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    live = {"exploration": {"method": "epsilon", "share": 0.5}}
    extra = {"decision_log": {"path": str(path)}, "policies": {"live": live}}
    async with stage_with(extra=extra) as stage:
        for backend in (stage.first, stage.second):
            backend.will(*[says(completion("Hi"))] * 60)
        for _ in range(60):
            await stage.ask()
        assert {r.model for r in stage.parts.ledger.recent} == {"first", "second"}
    records = decisions(path)
    for record in records:
        assert record.propensity == {"first": 0.75, "second": 0.25}[record.chosen]
        assert replay_decision(record).order == record.order


async def test_a_canary_serves_its_share_and_a_shadow_only_writes(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    extra = {
        "decision_log": {"path": str(path)},
        "policies": {
            "canary": {"share": 0.5, "min_quality": 0.2, "max_cost_usd": 1e-9},
            "shadow": {"min_quality": 0.95},
        },
    }
    async with stage_with(extra=extra) as stage:
        stage.first.will(*[says(completion("Hi"))] * 40)
        codes = {(await stage.ask(session_id=str(n))).status_code for n in range(40)}
        assert codes == {200, 422}  # the canary's price is met by nobody
        same = [(await stage.ask(session_id="one")).status_code for _ in range(5)]
        assert len(set(same)) == 1
    for record in decisions(path):
        assert (record.arm, record.propensity) == ("live", 0.5)
        assert record.shadow is not None
        assert (record.shadow.policy, record.shadow.chosen) == ("shadow", None)


async def test_replay_judges_a_policy_on_real_traffic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "decisions.jsonl"
    live = {"exploration": {"method": "epsilon", "share": 0.5}}
    extra = {"decision_log": {"path": str(path)}, "policies": {"live": live}}
    async with stage_with(extra=extra) as stage:
        for backend in (stage.first, stage.second):
            backend.will(*[says(completion("Hi"))] * 80)
        for _ in range(80):
            await stage.ask()
        await stage.ask(model="first")
        log = stage.parts.decision_log
        assert log is not None
        for row in stage.parts.ledger.recent:
            score = 0.9 if row.model == "second" else 0.3
            log.append(FeedbackRecord(at_s=0, request_id=row.request_id, score=score))
    policy = tmp_path / "other.yaml"
    # Of two models at one price the second is the faster by nothing, and the worse by prediction.
    policy.write_text("exploration: {share: 1.0, method: epsilon}\n")
    assert main(["replay", "--log", str(path), "--policy", str(policy), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["decisions"], found["pinned"], found["changed"]) == (81, 1, [])
    quality = found["quality"]
    assert quality["samples"] == 80
    # The truth lies beyond a 95 % interval once in twenty; that it covers is the simulator's test.
    assert abs(quality["snips"]["value"] - 0.6) < 0.25
    assert quality["unsupported"] == 0
    assert main(["replay", "--log", str(path), "--policy", str(policy)]) == 0
    shown = capsys.readouterr().out
    tampered = msgspec.structs.replace(decisions(path)[0], order=("second", "first"), reason="?")
    path.write_bytes(encode_record(tampered))
    assert main(["replay", "--log", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == [tampered.decision_id]
    assert "81 of 81 decisions come out the same again" in shown


def test_replay_says_what_is_wrong_with_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.jsonl"
    assert main(["replay", "--log", str(path)]) == 1
    assert "none.jsonl: No such file" in capsys.readouterr().err
    policy = tmp_path / "p.yaml"
    policy.write_text("objective: bst\n")
    path.write_bytes(encode_record(FeedbackRecord(at_s=0, request_id="r", score=1)))
    assert main(["replay", "--log", str(path), "--policy", str(policy)]) == 1
    assert "objective: must be one of best" in capsys.readouterr().err
