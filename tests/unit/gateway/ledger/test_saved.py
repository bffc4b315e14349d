"""The report of savings on logs whose truth is known."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.cli import main
from gateway.ledger import saved as saved_module
from gateway.ledger.decision_records import (
    DecisionRecord,
    FeedbackRecord,
    Record,
    encode_record,
    within_days,
)
from gateway.ledger.saved import Alternative, Estimate, Saved, saved_by
from gateway.saved_report import print_saved
from gateway.upstream.usage import TokenUsage
from policies.select import select
from policies.types import Candidate, Needs, Policy, RoutingFlags, Situation


def candidate(model: str, quality: float, cost_usd: float | None) -> Candidate:
    return Candidate(model, quality, quality, quality, cost_usd, 100, 10.0, 100.0)


BIG, SMALL = candidate("big", 0.9, 10.0), candidate("small", 0.6, 1.0)
POOL = (BIG, SMALL)
NO_FLAGS = RoutingFlags()


def decision(
    number: int,
    served: str,
    paid_usd: float | None,
    candidates: tuple[Candidate, ...] = POOL,
    flags: RoutingFlags = NO_FLAGS,
    **changes: Any,
) -> DecisionRecord:
    situation = Situation(candidates, flags, Needs(), 0.5, None, False)
    selection = select(situation, Policy())
    plan = selection.decision
    values: dict[str, Any] = {
        "at_s": 1_700_000_000.0 + number,
        "request_id": f"req_{number}",
        "decision_id": f"dec_{number}",
        "policy_version": "p",
        "profile": "best",
        "candidates": candidates,
        "flags": flags,
        "needs": situation.needs,
        "draw": situation.draw,
        "stay_with": None,
        "policy": Policy(),
        "arm": "live",
        "propensity": 1.0,
        "chances": selection.chances,
        "shadow": None,
        "chosen": plan.chosen,
        "order": plan.order,
        "reason": plan.reason,
        "served": served,
        "backend": "b",
        "outcome": "ok",
        "error_code": None,
        "attempts": 1,
        "usage": TokenUsage(10, 0, 10),
        "cost_usd": paid_usd,
        "ttft_ms": None,
        "duration_ms": 1.0,
    }
    return DecisionRecord(**{**values, **changes})


def known_log() -> list[Record]:
    """150 answers of small, which cost half more than predicted; 50 of big, which cost half as much."""
    served = ["small"] * 150 + ["big"] * 50
    paid = {"small": 1.5, "big": 5.0}
    return [decision(n, model, paid[model]) for n, model in enumerate(served)]


def alternative(saved: Saved, name: str) -> Alternative:
    (found,) = [a for a in saved.alternatives if a.name == name]
    return found


def is_around(estimate: Estimate, value: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= value <= estimate.high


def test_what_was_saved_is_what_the_log_says() -> None:
    saved = saved_by(known_log())
    assert (saved.decisions, saved.compared, saved.left_out) == (200, 200, {})
    assert saved.paid_usd == pytest.approx(150 * 1.5 + 50 * 5)
    assert saved.cost_usd == pytest.approx((150 + 500) / 200)
    best = alternative(saved, "always-best")
    assert (best.cost_usd, best.quality) == (pytest.approx(10), pytest.approx(0.9))
    assert best.saved_share.value == pytest.approx(1 - 650 / 2_000)
    assert best.saved_usd.value == pytest.approx(10 - 650 / 200)
    # As paid: big's answers cost half of their prediction, so all of them would have been 1,000.
    assert best.paid_share.value == pytest.approx(1 - 475 / 1_000)
    assert best.quality_difference.value == pytest.approx(-0.3 * 0.75)
    cheapest = alternative(saved, "always-cheapest")
    assert cheapest.saved_share.value == pytest.approx(1 - 650 / 200)
    assert cheapest.paid_share.value == pytest.approx(1 - 475 / 300)
    random_choice = alternative(saved, "random")
    assert random_choice.cost_usd == pytest.approx(5.5)
    assert random_choice.paid_share.value == pytest.approx(1 - 475 / (200 * (5 * 0.5 + 0.5 * 1.5)))


def test_costs_are_checked_model_by_model() -> None:
    big, small = saved_by(known_log()).cost_checks
    assert (big.model, big.answers, big.predicted, big.realised) == ("big", 50, 10.0, 5.0)
    assert big.difference.value == pytest.approx(-5)
    assert (small.model, small.answers) == ("small", 150)
    assert small.difference.value == pytest.approx(0.5)


def test_a_model_with_few_answers_is_set_right_by_all() -> None:
    few = [decision(n, "small", 2.0) for n in range(90)] + [decision(90, "big", 1_000.0)]
    best = alternative(saved_by(few), "always-best")
    ratio = (90 * 2 + 1_000) / (90 + 10)
    assert best.paid_share.value == pytest.approx(1 - (180 + 1_000) / (91 * 10 * ratio))


def test_a_single_model_is_compared_where_it_could_have_answered() -> None:
    three = (*POOL, candidate("other", 0.7, 2.0))
    log = [decision(n, "small", 1.0) for n in range(40)]
    log += [decision(40 + n, "small", 1.0, three) for n in range(10)]
    other = alternative(saved_by(log), "always other")
    assert (other.requests, other.saved_share.value) == (10, pytest.approx(0.5))
    assert alternative(saved_by(log), "always big").requests == 50


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Routers that send half of the prompts to big, with prompts of very different length."""
    truth = 1 - (0.5 * 1 + 0.5 * 10) / 10
    held = {"saved": 0, "quality": 0}
    logs = 80
    for seed in range(logs):
        draw = random.Random(seed)
        log: list[Record] = []
        for number in range(150):
            size = draw.expovariate(1.0)
            pool = (
                candidate("big", 0.9, 10 * size),
                candidate("small", min(1.0, 0.6 + draw.uniform(-0.1, 0.1)), size),
            )
            log.append(decision(number, draw.choice(["big", "small"]), size, pool))
        best = alternative(saved_by(log, seed=seed), "always-best")
        held["saved"] += is_around(best.saved_share, truth)
        held["quality"] += is_around(best.quality_difference, -0.15)
    # 95 % of 80 is 76; 68 or fewer would be four standard deviations away.
    assert all(68 < count < 81 for count in held.values()), held


def test_bundles_of_requests_vary_as_the_requests_do(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    log = [decision(n, draw.choice(["big", "small"]), 1.0) for n in range(600)]
    alone = alternative(saved_by(log), "always-best").saved_share
    monkeypatch.setattr(saved_module, "MAX_BUNDLES", 100)
    bundled = alternative(saved_by(log), "always-best").saved_share
    assert bundled.value == pytest.approx(alone.value)
    width = (alone.high or 0) - (alone.low or 0)
    assert (bundled.high or 0) - (bundled.low or 0) == pytest.approx(width, rel=0.3)


def test_scores_are_held_against_predictions_and_the_report_says_which_are_too_high() -> None:
    log = known_log()
    draw = random.Random(1)
    for number in range(200):
        score = 0.6 + draw.uniform(-0.1, 0.1)  # right for small, too little for big
        log.append(FeedbackRecord(at_s=0, request_id=f"req_{number}", score=score))
    log.append(FeedbackRecord(at_s=0, request_id="req_elsewhere", score=0))
    saved = saved_by(log)
    big, small = saved.quality_checks
    assert (big.answers, small.answers) == (50, 150)
    assert is_around(small.difference, 0.0)
    assert is_around(big.difference, -0.3)
    assert big.difference.high is not None
    assert big.difference.high < 0
    assert "below the predictions for big;" in printed(saved)


def test_the_last_score_of_an_answer_counts() -> None:
    log: list[Record] = [decision(0, "big", 1.0)]
    log += [FeedbackRecord(at_s=0, request_id="req_0", score=score) for score in (0.0, 0.5)]
    (check,) = saved_by(log).quality_checks
    assert check.realised == pytest.approx(0.5)


def test_what_cannot_be_compared_is_counted_by_its_reason() -> None:
    unpriced = (BIG, candidate("free", 0.5, None))
    barred = RoutingFlags(allow=("big",))
    saved = saved_by([
        decision(0, "big", 1.0),
        decision(1, "big", 1.0, flags=RoutingFlags(allow=("big",), is_pinned=True)),
        decision(2, "big", 1.0, first_try="small"),
        decision(3, "big", 1.0, outcome="error"),
        decision(4, "big", 1.0, outcome="cancelled"),
        decision(5, "big", 1.0, (BIG,), barred),
        decision(6, "big", 1.0, unpriced),
        decision(7, "gone", 1.0),
    ])  # fmt: skip
    assert (saved.decisions, saved.compared) == (8, 1)
    assert saved.left_out == {
        "named their model": 1,
        "cascades": 1,
        "failed or cancelled": 2,
        "without a choice": 2,
        "with a model of unknown price": 1,
    }
    assert saved.paid_usd == pytest.approx(8.0)


def test_an_empty_log_says_that_there_is_nothing_to_compare() -> None:
    saved = saved_by([])
    assert (saved.decisions, saved.alternatives, saved.cost_usd) == (0, (), None)
    assert "0 of 0 decisions" in printed(saved)


def printed(saved: Saved) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        print_saved(saved, console)
    return console.export_text()


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    write(path, known_log())
    return path


def write(path: Path, records: Sequence[Record]) -> None:
    path.write_bytes(b"".join(encode_record(record) for record in records))


def test_the_command_prints_a_table_and_json(
    log_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["savings", "--log", str(log_file)]) == 0
    table = capsys.readouterr().out
    assert "200 of 200 decisions are compared, 2023-11-14 to 2023-11-14" in table
    assert "52.5%" in table  # of always-best, as paid
    assert main(["savings", "--log", str(log_file), "--json", "--confidence", "0.5"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["confidence"] == 0.5
    names = [a["name"] for a in document["alternatives"]]
    assert names == ["always-best", "always-cheapest", "random", "always big", "always small"]


def test_a_log_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["savings", "--log", str(tmp_path / "gone")]) == 1
    assert capsys.readouterr().err.startswith("thalamus: cannot read")


def test_days_bound_decisions_and_never_what_is_said_of_them(tmp_path: Path) -> None:
    day = datetime.date(2023, 11, 15)
    start_s = datetime.datetime(2023, 11, 15, tzinfo=datetime.UTC).timestamp()
    moments = [start_s - 1, start_s, start_s + 86_399, start_s + 86_400]
    first, second = tmp_path / "a", tmp_path / "b"
    write(first, [decision(n, "big", 1.0, at_s=at_s) for n, at_s in enumerate(moments[:2])])
    rest: list[Record] = [
        decision(n + 2, "big", 1.0, at_s=at_s) for n, at_s in enumerate(moments[2:])
    ]
    write(second, [*rest, FeedbackRecord(at_s=start_s + 1e6, request_id="req_1", score=1)])

    def ids(found: Iterator[Record]) -> list[str]:
        return [r.request_id for r in found if isinstance(r, DecisionRecord | FeedbackRecord)]

    assert ids(within_days([first, second], day, day)) == ["req_1", "req_2", "req_1"]
    assert len(ids(within_days([first, second], None, None))) == 5


def test_the_days_set_aside_belong_to_their_log(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    write(path.with_name("decisions.jsonl.2023-11-14"), [decision(1, "big", 1.0)])
    write(path, [decision(2, "big", 1.0)])
    found = [r.request_id for r in within_days([path, path], None, None)]  # type: ignore[union-attr]
    assert found == ["req_1", "req_2"]
