"""What a client says of an answer: kept, joined, and never anybody else's to say."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.ledger.decision_records import FeedbackRecord, LogReading
from gateway.ledger.replay import replay_log
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.fakes.backend import completion, says
from tests.faults.conftest import Stage, stage_with


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    log = {"decision_log": {"path": str(tmp_path / "log.jsonl")}}
    async with stage_with(extra=log) as made:
        made.first.will(says(completion()))
        yield made
        await made.census()


async def feedback(stage: Stage, **body: Any) -> httpx2.Response:
    return await stage.client.post("/v1/feedback", json=body)


async def metric(stage: Stage, name: str) -> float:
    text = (await stage.client.get("/metrics")).text
    (line,) = [li for li in text.splitlines() if li.startswith(f'thalamus_{name}{{model="first"')]
    return float(line.rpartition(" ")[2])


async def test_a_score_is_joined_with_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    async with stage_with(extra={"decision_log": {"path": str(path)}}) as stage:
        stage.first.will(says(completion()))
        request_id = (await stage.ask()).headers["x-request-id"]
        answer = await feedback(stage, request_id=request_id, score=0.4, comment="wrong unit")
        assert answer.json() == {"request_id": request_id, "score": 0.4, "known": True}
        # Predicted was 0.9, the model's prior.
        assert await metric(stage, "calibration_error") == pytest.approx(0.5)
    (said,) = [r for r in LogReading(path) if isinstance(r, FeedbackRecord)]
    assert (said.request_id, said.score, said.comment) == (request_id, 0.4, "wrong unit")
    replay = replay_log(path, None)
    assert (replay.decisions, replay.feedback) == (1, 1)


async def test_the_last_score_of_a_request_counts_once(stage: Stage) -> None:
    request_id = (await stage.ask()).headers["x-request-id"]
    for score in (0.1, 0.1, 0.8):
        assert (await feedback(stage, request_id=request_id, score=score)).status_code == 200
    assert await metric(stage, "calibration_error") == pytest.approx(0.1)
    assert await metric(stage, "feedback_total") == 1


async def test_an_answer_that_is_not_remembered_can_be_scored_all_the_same(stage: Stage) -> None:
    answer = await feedback(stage, request_id="req_long_ago", score=1)
    assert (answer.status_code, answer.json()["known"]) == (200, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"request_id": "r"}, "score"),
        ({"request_id": "r", "score": 1.5}, "score"),
        ({"request_id": "r", "score": "good"}, "score"),
        ({"request_id": "", "score": 1}, "request_id"),
        ({"request_id": "r", "score": 1, "stars": 5}, "stars"),
    ],
)
async def test_what_is_wrong_is_named(stage: Stage, body: dict[str, Any], field: str) -> None:
    answer = await feedback(stage, **body)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]


async def test_without_a_decision_log_nothing_is_promised() -> None:
    async with stage_with() as stage:
        answer = await feedback(stage, request_id="r", score=1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "feedback_not_kept")


async def test_nobody_scores_what_another_key_asked(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.db")
    tokens = []
    for name in ("one", "two"):
        token, key = make_key(name, KeyPolicy(), time.time())
        file.add(key)
        tokens.append({"authorization": f"Bearer {token}"})
    extra = {
        "auth": {"mode": "keys", "keys": str(file.path)},
        "decision_log": {"path": str(tmp_path / "log.jsonl")},
    }
    async with stage_with(extra=extra) as stage:
        stage.first.will(says(completion()))
        stage.client.headers.update(tokens[0])
        request_id = (await stage.ask()).headers["x-request-id"]
        said = {"request_id": request_id, "score": 0.0}
        stage.client.headers.update(tokens[1])
        assert (await feedback(stage, **said)).status_code == 404
        stage.client.headers.update(tokens[0])
        assert (await feedback(stage, **said)).status_code == 200
        del stage.client.headers["authorization"]
        assert (await feedback(stage, **said)).status_code == 401
