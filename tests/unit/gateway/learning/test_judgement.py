"""The judgement is right as often as it says, and each verdict follows from its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.learning.judgement import Evidence, judge_on_log, judge_on_measured
from gateway.learning.outcomes import Outcome, read_outcomes
from gateway.learning.replayed import Choice, Chooser
from gateway.learning.rounds import PATIENCE, shadow_verdict, verdict
from policies.off_policy import Interval
from router_models.training.dataset import read_routing_data
from router_models.types import Estimates
from tests.unit.gateway.learning.traffic import MODELS, TRUTH, World, best, kind_of, worst

#: The worst answers .3, the best .9.
DIFFERENCE = 0.6


def chooses(pick: Chooser | object, expected: float = 0.5) -> Chooser:
    """A router that picks so, and expects the same of every model: wrongly, mostly."""
    return lambda outcome: Choice(pick(outcome.prompt), dict.fromkeys(MODELS, expected), 0.0)  # type: ignore[operator]


def outcomes_of(folder: Path, requests: int, seed: int, explored: float = 0.5) -> list[Outcome]:
    folder.mkdir(exist_ok=True)
    world = World(folder, explored=explored, seed=seed)
    world.log.unlink(missing_ok=True)
    world.serve(requests, worst)
    return read_outcomes(world.log)


def test_the_interval_covers_the_truth_as_often_as_it_says(tmp_path: Path) -> None:
    covered = []
    for seed in range(50):
        found = judge_on_log(
            outcomes_of(tmp_path, 250, seed), chooses(best), chooses(worst), confidence=0.9
        )
        assert found is not None
        covered.append(found.difference.low <= DIFFERENCE <= found.difference.high)
    # Nominally 45 of 50; 38 is three standard errors below.
    assert sum(covered) >= 38


def test_equals_are_equal_whatever_was_logged(tmp_path: Path) -> None:
    found = judge_on_log(outcomes_of(tmp_path, 100, 1), chooses(best), chooses(best), 0.95)
    assert found is not None
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.agreement == 1.0
    assert verdict([found])[0] == "rejected"


def test_what_is_told_of_the_choices(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, 600, 2)
    found = judge_on_log(outcomes, chooses(best), chooses(worst), 0.95)
    assert found is not None
    assert found.requests == 600
    assert found.unsupported == 0.0
    assert found.agreement == 0.0
    # Each of three models is explored in a sixth of the requests.
    assert found.effective == pytest.approx(100, abs=30)
    assert found.routed_quality == pytest.approx(0.9, abs=0.1)
    assert found.best_single == pytest.approx(0.6, abs=0.1)


def test_charges_count_against_a_choice(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, 200, 3)
    dear: Chooser = lambda o: Choice(best(o.prompt), dict.fromkeys(MODELS, 0.5), 0.7)  # noqa: E731
    found = judge_on_log(outcomes, dear, chooses(worst), 0.95)
    assert found is not None
    assert found.difference.value < 0.1 < found.routed_quality


def test_only_scored_requests_that_somebody_drew_are_evidence(tmp_path: Path) -> None:
    assert judge_on_log([], chooses(best), chooses(worst), 0.95) is None
    outcomes = [Outcome(o.record, o.prompt, None) for o in outcomes_of(tmp_path, 5, 4)]
    assert judge_on_log(outcomes, chooses(best), chooses(worst), 0.95) is None
    nobody: Chooser = lambda _: None  # noqa: E731
    assert judge_on_log(outcomes_of(tmp_path, 5, 4), nobody, chooses(worst), 0.95) is None


class Specialist:
    """A router that knows the world."""

    models = MODELS
    version = "s"

    def score(self, prompt: str) -> Estimates:
        quality = np.array(TRUTH[kind_of(prompt)])
        return Estimates(MODELS, quality, quality, quality, quality)


def test_measured_outcomes_are_compared_directly(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    world = World(tmp_path)
    rows = [(p, m, TRUTH[kind_of(p)][i]) for p in (world.prompt() for _ in range(60))
            for i, m in enumerate(MODELS)]  # fmt: skip
    text = {name: ["x"] * len(rows) for name in ("source", "task")}
    path = tmp_path / "m.parquet"
    pq.write_table(
        pa.table(
            {
                "prompt_id": [p for p, _, _ in rows],
                "prompt": [p for p, _, _ in rows],
                "model": [m for _, m, _ in rows],
                "score": [s for _, _, s in rows],
                **text,
                "split": ["val"] * len(rows),
                "prompt_tokens": [9] * len(rows),
                "completion_tokens": [9] * len(rows),
            }
        ),
        path,
    )
    data = read_routing_data(path)
    found = judge_on_measured(data, Specialist(), None, 0.95)
    assert found is not None
    assert found.routed_quality == pytest.approx(0.9)
    single = float(data.scores.mean(axis=0).max())
    assert found.best_single == pytest.approx(single)
    assert found.difference.value == pytest.approx(0.9 - single)
    assert found.difference.low > 0
    same = judge_on_measured(data, Specialist(), Specialist(), 0.95)
    assert same is not None
    assert same.difference.value == 0.0


def evidence(
    low: float, high: float, effective: float = 100.0, unsupported: float = 0.0, requests: int = 300
) -> Evidence:
    middle = (low + high) / 2
    return Evidence(
        "log", requests, effective, unsupported, 0.5, Interval(middle, low, high), 0.7, 0.6
    )


@pytest.mark.parametrize(
    ("found", "stage", "told"),
    [
        ([evidence(0.01, 0.2)], "shadow", "better: +0.1050 [+0.0100, +0.2000] on 300 scored"),
        ([evidence(-0.01, 0.2)], "rejected", "not better with confidence"),
        ([evidence(-0.2, -0.01)], "rejected", "worse"),
        ([evidence(0.01, 0.2, effective=10)], "rejected", "too little evidence"),
        ([evidence(0.01, 0.2, unsupported=0.5)], "rejected", "50% of its choices could never"),
        ([evidence(0.01, 0.2), evidence(-0.2, -0.1)], "rejected", "worse"),
        ([evidence(-0.1, 0.2), evidence(0.01, 0.1)], "shadow", "better"),
        ([], "rejected", "nothing to judge it on"),
    ],
)
def test_only_the_better_goes_into_shadow(found: list[Evidence], stage: str, told: str) -> None:
    said, reason = verdict(found)
    assert said == stage
    assert reason.startswith(told)


@pytest.mark.parametrize(
    ("found", "expected_low", "stage"),
    [
        (evidence(0.01, 0.2), 0.05, "promoted"),
        (evidence(-0.01, 0.2), 0.05, None),
        (evidence(0.01, 0.04), 0.05, "promoted"),
        (evidence(-0.01, 0.04), 0.05, "rejected"),
        (evidence(-0.01, 0.04), None, None),
        (evidence(-0.2, -0.1), 0.05, "rejected"),
        (evidence(-0.1, 0.2, requests=100 * PATIENCE), 0.05, "rejected"),
        (evidence(0.01, 0.2, effective=5), 0.05, None),
    ],
)
def test_the_shadow_must_confirm_what_was_expected(
    found: Evidence, expected_low: float, stage: str | None
) -> None:
    assert shadow_verdict(found, expected_low, wanted=100)[0] == stage
