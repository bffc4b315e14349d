from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.ledger.accounting import LedgerRow
from gateway.telemetry.comparisons import BASELINES, EVERY
from gateway.telemetry.metrics import OTHER_REASON, REASONS, Metrics
from gateway.upstream.usage import TokenUsage
from policies.types import GOALS, Candidate
from tests.unit.gateway.telemetry.test_series import value

ROW = LedgerRow(
    request_id="r", decision_id="d", principal="anonymous", at_s=0,
    profile="best", chosen_model="a", model="a",
    backend="b", reason="highest predicted quality 0.9, next b 0.5", outcome="ok", error_code=None,
    attempts=1, usage=TokenUsage(100, 40, 11), cost_nanos=5_000_000, predicted_quality=0.9,
    ttft_ms=200, duration_ms=1200,
)  # fmt: skip


def finished(**changes: Any) -> Metrics:
    metrics = Metrics()
    metrics.request_finished(msgspec.structs.replace(ROW, **changes))
    return metrics


def test_a_finished_request_is_counted_everywhere_at_once() -> None:
    metrics = finished()
    assert value(metrics, "requests_total", model="a", profile="best", outcome="ok") == 1
    assert value(metrics, "decisions_total", model="a", reason="quality") == 1
    assert value(metrics, "tokens_total", model="a", kind="input") == 60
    assert value(metrics, "tokens_total", model="a", kind="cached") == 40
    assert value(metrics, "tokens_total", model="a", kind="output") == 11
    assert value(metrics, "cost_usd_total", model="a") == pytest.approx(0.005)
    assert value(metrics, "ttft_seconds_sum", model="a") == pytest.approx(0.2)
    assert value(metrics, "inter_token_seconds_sum", model="a") == pytest.approx(0.1)
    assert value(metrics, "e2e_seconds_sum", model="a") == pytest.approx(1.2)
    assert value(metrics, "predicted_quality_sum", model="a") == pytest.approx(0.9)


def test_an_answer_that_was_not_streamed_has_no_first_token() -> None:
    assert value(finished(ttft_ms=None), "ttft_seconds_count", model="a") == 0


@pytest.mark.parametrize(("outcome", "side"), [("cancelled", "client"), ("error", "backend")])
def test_a_broken_stream_names_who_broke_it(outcome: str, side: str) -> None:
    assert value(finished(outcome=outcome), "stream_aborts_total", side=side) == 1


def test_a_request_that_never_streamed_aborts_no_stream() -> None:
    metrics = finished(outcome="error", ttft_ms=None)
    assert value(metrics, "stream_aborts_total", side="backend") == 0


def test_another_model_than_chosen_is_a_fallback_only_when_it_answered() -> None:
    assert value(finished(model="c"), "fallbacks_total", model="c") == 1
    assert value(finished(model="c", outcome="error"), "fallbacks_total", model="c") is None


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("tied with b, lower cost", "tied"),
        ("only feasible candidate", "only_feasible"),
        ("best effort: max_cost_usd off by 3%", "best_effort"),
        ("explored in place of b", "explored"),
        ("stays with the model of the conversation", "conversation"),
        ("falls back, unlike the prompts trained on", "fallback"),
        ("unlike the prompts trained on (nearness 0.09): by router.fallback", "fallback"),
        ("cascade: small kept at 0.91", "cascade"),
        ("cost decided: 0.1 USD, next b with 0.2 USD", "cost"),
        ("the moon said so", OTHER_REASON),
    ],
)
def test_reasons_are_a_closed_set(reason: str, label: str) -> None:
    assert value(finished(reason=reason), "decisions_total", model="a", reason=label) == 1


def test_every_goal_is_a_reason() -> None:
    assert set(GOALS) <= set(REASONS)


def test_savings_and_their_opposite_are_two_counters() -> None:
    metrics = Metrics()
    served, other = candidate("a", 0.8, 1.0), candidate("b", 0.9, 1.4)
    metrics.comparisons.note(served, [served, other], [(0.4, 0.1), (-0.2, -0.3), (None, 0.0)])
    best, cheapest, random = BASELINES
    assert value(metrics, "compared_requests_total") == 1
    assert value(metrics, "cost_saved_usd_total", baseline=best) == pytest.approx(0.4)
    assert value(metrics, "cost_added_usd_total", baseline=cheapest) == pytest.approx(0.2)
    assert value(metrics, "cost_saved_usd_squares_total", baseline=best) == pytest.approx(0.16)
    assert value(metrics, "quality_given_up_total", baseline=best) == pytest.approx(0.1)
    assert value(metrics, "quality_gained_total", baseline=cheapest) == pytest.approx(0.3)
    assert value(metrics, "cost_saved_usd_total", baseline=random) == 0
    assert value(metrics, "compared_cost_usd_total") == pytest.approx(1.0)
    assert value(metrics, "compared_quality_total") == pytest.approx(0.8)


def candidate(model: str, quality: float, cost_usd: float | None) -> Candidate:
    return Candidate(model, quality, 0, 1, cost_usd, 100, None, None)


def test_each_model_alone_is_added_up_for_one_request_in_eight() -> None:
    metrics = Metrics()
    pool = [candidate("a", 0.8, 1.0), candidate("b", 0.9, 1.5), candidate("unpriced", 0.9, None)]
    for _ in range(2 * EVERY + 1):
        metrics.comparisons.note(pool[0], pool, [(0.0, 0.0)] * 3)
    assert value(metrics, "compared_requests_total") == 17
    assert value(metrics, "alternative_requests_total", model="b") == 3
    assert value(metrics, "alternative_cost_usd_total", model="b") == pytest.approx(4.5)
    assert value(metrics, "alternative_quality_total", model="a") == pytest.approx(2.4)
    assert value(metrics, "alternative_requests_total", model="unpriced") is None


@pytest.mark.parametrize(
    ("predicted", "tenth"), [(0.0, "0.0"), (0.69, "0.6"), (0.7, "0.7"), (1.0, "0.9")]
)
def test_scores_are_held_against_predictions_by_tenths(predicted: float, tenth: str) -> None:
    metrics = Metrics()
    metrics.judgements.note_first_score("a", predicted, 0.25)
    assert value(metrics, "scored_answers_total", tenth=tenth) == 1
    assert value(metrics, "scored_predicted_total", tenth=tenth) == pytest.approx(predicted)
    assert value(metrics, "scored_score_total", tenth=tenth) == pytest.approx(0.25)
    assert value(metrics, "feedback_total", model="a") == 1


def test_nearness_is_counted_where_it_was_looked_at() -> None:
    metrics = Metrics()
    metrics.observe_decision((0, 0, 0, 0, 0), 0.0)
    metrics.observe_decision((0, 0, 0, 0, 0), 0.0, 0.35)
    assert value(metrics, "prompt_nearness_count") == 1
    assert value(metrics, "prompt_nearness_bucket", le="0.4") == 1


def test_configured_models_begin_at_zero() -> None:
    metrics = Metrics()
    metrics.know_models(["a"], [("a", "b")])
    assert value(metrics, "requests_total", model="a", profile="best", outcome="ok") == 0
    assert value(metrics, "upstream_attempts_total", backend="b", outcome="ok") == 0


@pytest.mark.parametrize(
    ("shadow", "result"), [("a", "same"), ("b", "other"), (None, "infeasible")]
)
def test_the_shadows_choice_is_counted_beside_the_real_one(shadow: str | None, result: str) -> None:
    metrics = Metrics()
    metrics.judgements.note_shadow(shadow, "a")
    counted = {r: value(metrics, "shadow_choices_total", result=r) for r in ("same", "other")}
    assert value(metrics, "shadow_choices_total", result=result) == 1
    assert sum(c or 0 for c in counted.values()) == (result != "infeasible")
