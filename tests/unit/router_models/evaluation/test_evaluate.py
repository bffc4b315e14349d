import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from router_models.evaluation import baselines, metrics
from router_models.evaluation.bootstrap import Resamples, interval_of
from router_models.evaluation.evaluate import evaluate
from router_models.evaluation.html import render_page
from router_models.evaluation.predictions import predict_table
from router_models.prices import Price
from router_models.training.dataset import PromptTable, read_routing_data
from router_models.training.train import train
from router_models.types import DataError, Estimates

NAN = float("nan")
LOSSES = np.array([[0.1, 0.9, NAN], [0.8, 0.2, 0.1], [0.3, 0.2, 0.9], [0.5, 0.6, 0.9]])


class Oracle:
    """A router that was told every outcome, to know what a perfect report looks like."""

    models = ("coder", "lawyer")
    version = "oracle"

    def __init__(self, data, sign=1.0):
        self._truth = dict(zip(data.prompts, data.scores, strict=True))
        self._sign = sign

    def score(self, prompt):
        quality = 0.5 + 0.5 * self._sign * (self._truth[prompt] - 0.5)
        return Estimates(self.models, quality, quality - 0.3, quality + 0.3, np.full(2, 10.0))


@pytest.fixture
def data(rows, write):
    """One more task is the coder's: it is the better of the two."""
    more = [r | {"prompt_id": f"more-{r['prompt_id']}"} for r in rows if r["task"] == "code"]
    return read_routing_data(write(rows + more))


def test_every_baseline_spends_one_pick_a_prompt_on_what_was_measured():
    tasks = ["a", "a", "b", "b"]
    for picks in (
        baselines.random_pick(LOSSES),
        baselines.round_robin(LOSSES),
        baselines.best_single(LOSSES, baselines.mean_measured(LOSSES)),
        baselines.task_oracle(LOSSES, tasks),
        baselines.prompt_oracle(LOSSES),
    ):
        np.testing.assert_allclose(picks.sum(axis=1), 1)
        assert picks[0, 2] == 0


def test_baselines_pick_what_their_names_say():
    assert baselines.round_robin(LOSSES).argmax(axis=1).tolist() == [0, 1, 2, 0]
    assert baselines.prompt_oracle(LOSSES).argmax(axis=1).tolist() == [0, 2, 1, 0]
    # Task b: model 0 costs .8 in sum, model 1 .8, model 2 1.8; the first of equals.
    assert baselines.task_oracle(LOSSES, list("aabb")).argmax(axis=1).tolist() == [0, 2, 0, 0]
    # Model 2 is preferred, but was not measured on the first prompt.
    assert baselines.best_single(LOSSES, np.array([2.0, 3.0, 1.0])).argmax(1).tolist() == [
        0,
        2,
        2,
        2,
    ]


def test_a_model_without_history_is_picked_before_one_that_was_not_measured():
    losses = np.array([[NAN, 0.5]])
    assert baselines.best_single(losses, np.array([np.inf, np.inf])).tolist() == [[0, 1]]


def test_a_perfect_router_closes_the_gap(data):
    report = evaluate(Oracle(data), data)
    row = report.policy("router")
    assert row.gap_closed.value == 1
    assert row.regret.value == 0
    assert row.optimal_any_tied.value == 1
    assert row.mean_score == report.policy("prompt oracle").mean_score
    assert row.below_best_single.low > 0
    assert all(task.picks_specialist.value == 1 for task in report.tasks)


def test_a_contrary_router_is_worse_than_chance(data):
    report = evaluate(Oracle(data, sign=-1.0), data)
    assert report.policy("router").mean_loss.value > report.policy("random").mean_loss.value
    assert report.policy("router").gap_closed.value < 0
    assert report.pair is not None
    assert report.pair.apgr.value < 0


def test_intervals_are_around_their_values_and_repeat(data):
    report = evaluate(Oracle(data), data)
    for row in report.policies:
        for interval in (row.mean_score, row.mean_loss, row.optimal_strict, row.regret):
            assert interval.low <= interval.value <= interval.high
    assert report == evaluate(Oracle(data), data)
    assert report != evaluate(Oracle(data), data, seed=1)


def test_the_interval_of_a_mean_has_the_textbook_width():
    values = np.random.default_rng(0).normal(size=400)
    interval = interval_of(Resamples.draw(400, 0).means(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_best_single_is_chosen_on_training_prompts_alone(data):
    flipped = data.scores.copy()
    held_out = np.array(data.splits) != "train"
    flipped[held_out] = [0.0, 1.0]
    flipped[~held_out] = [1.0, 0.0]
    report = evaluate(Oracle(data), replace(data, scores=flipped))
    assert report.best_single == "coder"
    assert report.policy("best single").mean_score.value == 0
    assert report.best_single_from == "train"
    assert evaluate(Oracle(data), data, split="train").best_single_from == "evaluated prompts"


def test_models_that_the_router_does_not_know_are_ignored(rows, write):
    extra = [r | {"model": "stranger", "score": 1.0} for r in rows if r["model"] == "coder"]
    data = read_routing_data(write(rows + extra))
    report = evaluate(Oracle(replace(data, scores=data.scores[:, :2])), data)
    assert report.ignored_models == ("stranger",)
    assert report.models == ("coder", "lawyer")


def test_a_router_for_other_models_is_refused(rows, write):
    data = read_routing_data(write([r | {"model": r["model"] + "-2"} for r in rows]))
    with pytest.raises(DataError, match="the router knows coder, lawyer"):
        evaluate(Oracle(data), data)


def test_calibration_and_coverage(data):
    rows = evaluate(Oracle(data), data).calibration
    # Truth 0 is predicted as .25 and truth 1 as .75, give or take .3.
    assert [row.ece.value for row in rows] == pytest.approx([0.25, 0.25])
    assert [row.brier.value for row in rows] == pytest.approx([0.0625, 0.0625])
    assert [row.coverage.value for row in rows] == [1, 1]
    assert sum(count for _, _, count in rows[0].bins) == rows[0].prompts


def test_json_has_no_value_that_json_lacks(data):
    report = evaluate(Oracle(data), data)
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [row["policy"] for row in plain["policies"]] == [
        "router",
        "random",
        "round-robin",
        "best single",
        "task oracle",
        "prompt oracle",
    ]


def test_the_frontier_runs_from_the_best_to_the_cheapest(data):
    prices = {"coder": Price(1.0, 1.0), "lawyer": Price(10.0, 10.0)}
    frontier = evaluate(Oracle(data), data, prices=prices).frontier
    assert frontier is not None
    costs = [point.usd_per_1k for point in frontier.router]
    assert costs == sorted(costs, reverse=True)
    cheapest = min(frontier.singles, key=lambda point: point.usd_per_1k)
    assert costs[-1] == pytest.approx(cheapest.usd_per_1k)
    assert 0 < frontier.qnc_percent.value <= 100


def test_metrics_of_the_frontier_have_intervals_and_every_baseline_a_point(data):
    prices = {"coder": Price(1.0, 1.0), "lawyer": Price(10.0, 10.0)}
    report = evaluate(Oracle(data), data, prices=prices)
    frontier = report.frontier
    assert frontier is not None
    assert report.tokens is None
    intervals = {n: v for n, v in asdict(frontier).items() if isinstance(v, dict)}
    assert len(intervals) == 13
    for name, interval in intervals.items():
        assert interval["low"] <= interval["value"] <= interval["high"], name
    # A router that knows every outcome is above every mixture of single models.
    assert frontier.aiq_paper.value > frontier.aiq_zero.high
    assert frontier.performance_gain.low > 0
    points = {point.name: point for point in frontier.baselines}
    assert list(points) == ["random", "round-robin", "best single", "task oracle", "prompt oracle"]
    costs = [point.usd_per_1k for point in frontier.singles]
    assert points["random"].usd_per_1k == pytest.approx(np.mean(costs))
    assert points["prompt oracle"].mean_score == report.policy("prompt oracle").mean_score.value
    assert points["best single"].mean_loss == report.policy("best single").mean_loss.value


def test_the_value_of_a_frontier_is_that_of_the_sample_itself(data):
    """Worked out again from its own points by the tested metrics."""
    prices = {"coder": Price(1.0, 1.0), "lawyer": Price(10.0, 10.0)}
    frontier = evaluate(Oracle(data), data, prices=prices).frontier
    x = np.array([point.usd_per_1k for point in frontier.router])
    y = np.array([point.mean_score for point in frontier.router])
    dearest = max(point.usd_per_1k for point in frontier.singles)
    best = max(frontier.singles, key=lambda point: point.mean_score)
    assert frontier.audc.value == pytest.approx(metrics.audc(x, y, dearest))
    assert frontier.aiq_code.value == pytest.approx(
        metrics.aiq(x, y, max_cost=dearest, variant="code")
    )
    assert frontier.qnc_percent.value == pytest.approx(
        metrics.qnc(x, y, best.mean_score, best.usd_per_1k)
    )
    assert frontier.arena_score.value == pytest.approx(metrics.arena_score(y[0], x[0]))


def test_without_prices_cost_is_told_in_tokens_where_the_data_have_them(data):
    report = evaluate(Oracle(data), data)
    assert report.frontier is None
    assert report.tokens is not None
    costs = {point.name: point.usd_per_1k for point in report.tokens.singles}
    # 8 tokens read and 40 or 200 written.
    assert costs == pytest.approx({"coder": 0.048, "lawyer": 0.208})
    unknown = replace(data, completion_tokens=np.full_like(data.completion_tokens, NAN))
    assert evaluate(Oracle(data), unknown).tokens is None


def test_the_page_has_every_plot_that_a_choice_needs(data):
    report = evaluate(Oracle(data), data, with_peers=True)
    page = render_page(report)
    curve = page[page.index("Score against tokens") :]
    for name in ("random", "round-robin", "best single", "task oracle", "prompt oracle", "coder"):
        assert f">{name}</text>" in curve
    assert "share of prompts to" in page
    assert "Share of traffic" in page
    assert "specialist alone" in page
    assert "Measured against predicted quality" in page
    assert len(report.pair.curve) == 11
    priced = evaluate(Oracle(data), data, prices={m: Price(1.0, 2.0) for m in data.models})
    assert "USD per 1,000 prompts" in render_page(priced)


def test_a_model_without_a_price_is_named(data):
    with pytest.raises(DataError, match="'lawyer' has no price"):
        evaluate(Oracle(data), data, prices={"coder": Price(1.0, 1.0)})


def test_the_page_escapes_names_and_needs_no_network(rows, write):
    hostile = "<script>alert(1)</script>"
    data = read_routing_data(write([r | {"task": r["task"] + hostile} for r in rows]))
    prices = {"coder": Price(1.0, 1.0), "lawyer": Price(10.0, 10.0)}
    page = render_page(evaluate(Oracle(data), data, prices=prices), {"note": hostile})
    assert hostile not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") >= 5
    assert "http" not in page


def test_predictions_have_one_row_per_prompt_and_model(data):
    router, _ = train(data.training())
    table = predict_table(
        router,
        PromptTable(("p", "q"), ("python list", "court judge")),
        {"coder": Price(1.0, 2.0)},
    )
    rows = table.to_pylist()
    assert [(r["prompt_id"], r["model"]) for r in rows] == [
        ("p", "coder"),
        ("p", "lawyer"),
        ("q", "coder"),
        ("q", "lawyer"),
    ]
    expected = (len("python list") / 4 * 1.0 + rows[0]["predicted_output_tokens"] * 2.0) / 1e6
    assert rows[0]["predicted_cost_usd"] == pytest.approx(expected)
    assert rows[1]["predicted_cost_usd"] is None
    assert rows[0]["predicted_quality"] > rows[1]["predicted_quality"]
    assert rows[2]["predicted_quality"] < rows[3]["predicted_quality"]
