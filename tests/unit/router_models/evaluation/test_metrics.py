"""Metrics against vectors worked out by hand or taken from the published code."""

import numpy as np
import pytest

from router_models.evaluation import metrics

NAN = float("nan")


def array(*values):
    return np.array(values, float)


# A curve through (0, 60), (50 %, 75), (100 %, 80), weak 60, strong 80.
SHARES, ACCURACIES = array(0, 0.5, 1), array(60, 75, 80)


def test_apgr():
    assert metrics.apgr(SHARES, ACCURACIES, 60, 80) == pytest.approx(0.625)


@pytest.mark.parametrize("variant", ["compat", "first_crossing"])
@pytest.mark.parametrize(("target", "share"), [(0.5, 1 / 3), (0.8, 0.6), (1.0, 1.0), (0.0, 0.0)])
def test_cpt(variant, target, share):
    result = metrics.cpt(SHARES, ACCURACIES, target, weak=60, strong=80, variant=variant)
    assert result == pytest.approx(share)


def test_cpt_takes_the_first_crossing_of_a_curve_that_falls():
    shares, accuracies = array(0, 0.25, 0.5, 1), array(60, 80, 70, 80)
    assert metrics.cpt(shares, accuracies, 0.5, weak=60, strong=80) == pytest.approx(0.125)


def test_cpt_is_undefined_where_the_curve_stays_below():
    assert np.isnan(metrics.cpt(SHARES, array(60, 61, 62), 0.5, weak=60, strong=80))


def test_recovered_gap():
    assert metrics.recovered_gap(75, 60, 80) == 0.75
    assert metrics.recovered_gap(85, 60, 80) == 1.25
    assert np.isnan(metrics.recovered_gap(75, 60, 60))


def test_a_perfect_margin_sends_what_gains_first():
    weak, strong = array(*[0] * 10, *[1] * 10), np.ones(20)
    margin = np.linspace(1, 0, 20)
    shares, accuracies = metrics.deferral_curve(margin, weak, strong)
    assert shares[[0, 5, -1]].tolist() == [0, 0.5, 1]
    assert accuracies[[0, 5, -1]].tolist() == [0.5, 1, 1]


def test_equal_margins_count_by_their_mean():
    weak, strong = array(1, 1, 0, 0), np.ones(4)
    shares, accuracies = metrics.deferral_curve(np.zeros(4), weak, strong)
    np.testing.assert_allclose(accuracies, 0.5 + 0.5 * shares)


def test_a_random_margin_recovers_half():
    draw = np.random.default_rng(0)
    weak, strong = draw.random(4000) < 0.6, draw.random(4000) < 0.8
    curve = metrics.deferral_curve(draw.random(4000), weak.astype(float), strong.astype(float))
    assert metrics.apgr(*curve, weak.mean(), strong.mean()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("points", "hull", "code", "paper"),
    [
        ([(1, 0.5), (2, 0.6), (4, 0.9)], [(1, 0.5), (4, 0.9)], 0.5250, 0.7000),
        ([(1, 0.5), (2, 0.8), (4, 0.7)], [(1, 0.5), (2, 0.8)], 0.5625, 0.7500),
        ([(1, 0.5), (2, 0.9), (3, 0.8), (4, 0.9)], [(1, 0.5), (2, 0.9)], 0.6250, 0.8333),
    ],
)
def test_aiq(points, hull, code, paper):
    costs, qualities = np.array(points, float).T
    assert list(zip(*metrics.upper_hull(costs, qualities), strict=True)) == hull
    assert metrics.aiq(costs, qualities, variant="code") == pytest.approx(code, abs=1e-4)
    assert metrics.aiq(costs, qualities) == pytest.approx(paper, abs=1e-4)


@pytest.mark.parametrize(
    ("accuracy", "cost", "score"),
    [
        (0.7518957671, 8.5434721952, 65.86468),
        (0.6721, 2.06, 63.87),
        (0.7859, 0.48, 75.85),
        (0.7396, 10.02, 64.32),
        (0.3201, 0.07, 33.75),
        (0.5869, 4.27, 55.48),
    ],
)
def test_arena_score(accuracy, cost, score):
    assert metrics.arena_score(accuracy, cost) == pytest.approx(score, abs=0.01)


def test_audc_extends_the_ends_flat():
    # Flat .5 until .25, rising to .9 at .5, flat to 1.
    area = metrics.audc(array(2, 1), array(0.9, 0.5), 4)
    assert area == pytest.approx(0.25 * 0.5 + 0.25 * 0.7 + 0.5 * 0.9)


def test_qnc():
    costs, qualities = array(1, 2, 3), array(0.5, 0.8, 0.9)
    assert metrics.qnc(costs, qualities, 0.8, 4) == 50
    assert np.isnan(metrics.qnc(costs, qualities, 0.95, 4))


LOSSES = np.array([[0.2, 0.1, 0.3], [0.5, 0.5, 0.9], [0.4, NAN, 0.6]])


def test_optimal_selection_strict_and_any_tied():
    assert metrics.hits_strict(LOSSES).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert metrics.hits_any_tied(LOSSES).tolist() == [[0, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_a_tie_goes_to_the_cheaper_model():
    costs = np.array([[1, 1, 1], [2, 1, 1], [1, 1, 1]], float)
    assert metrics.hits_strict(LOSSES, costs).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_the_cheapest_correct_model_and_prompts_that_none_answers():
    scores = np.array([[1, 1, 0], [0, 0, 0], [0, NAN, 1]])
    costs = np.array([[2, 1, 0], [1, 1, 1], [1, 1, 5]], float)
    hits = metrics.hits_cheapest_correct(scores, costs)
    assert hits[0].tolist() == [0, 1, 0]
    assert np.isnan(hits[1]).all()
    assert hits[2].tolist() == [0, 0, 1]


def test_argmax_score_takes_the_first_of_equals():
    assert metrics.hits_argmax_score(np.array([[0, 1, 1]])).tolist() == [[0, 1, 0]]


def test_regret_and_expectation_ignore_what_was_not_measured():
    picks = np.array([[1, 0, 0], [0, 0, 1], [0.5, 0, 0.5]])
    np.testing.assert_allclose(metrics.expected(LOSSES, picks), [0.2, 0.9, 0.5])
    np.testing.assert_allclose(metrics.regret(LOSSES, picks), [0.1, 0.4, 0.1])


def test_calibration():
    predicted, truth = array(0.1, 0.1, 0.9, 0.9), array(0, 0, 1, 0)
    # Two bins of two: |.1 - 0| and |.9 - .5|.
    assert metrics.ece(predicted, truth) == pytest.approx(0.25)
    assert metrics.brier(predicted, truth) == pytest.approx((0.01 + 0.01 + 0.01 + 0.81) / 4)
    assert metrics.ece(array(1.0, 0.0), array(1, 0)) == 0


def test_half_of_the_audc_ends_inside_a_segment():
    # Flat .5 until .25, rising to .9 at .5, flat to 1; up to .375 it is .7.
    area = metrics.audc(array(2, 1), array(0.9, 0.5), 4, 0.375)
    assert area == pytest.approx((0.25 * 0.5 + 0.125 * 0.6) / 0.375)
    assert metrics.audc(array(2, 1), array(0.9, 0.5), 4, 0.5) == pytest.approx(
        (0.25 * 0.5 + 0.25 * 0.7) / 0.5
    )


def test_optimal_cost_and_accuracy():
    scores = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], float)
    costs = np.array([[1, 2, 4]] * 3, float)
    picks = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], float)
    # Cheapest correct: 1 of 2 spent, 2 of 4 spent; the third prompt does not count.
    assert metrics.optimal_cost(scores, costs, picks) == pytest.approx(0.5)
    assert metrics.optimal_accuracy(scores, picks) == pytest.approx(1.0)
    assert metrics.optimal_accuracy(scores, np.eye(3)[[2, 0, 0]]) == 0
    assert np.isnan(metrics.optimal_cost(np.zeros((1, 3)), costs[:1], picks[:1]))


def test_benefit_per_cost():
    assert metrics.ibc(0.8, 3.0, 0.6, 1.0) == pytest.approx(0.1)
    assert np.isnan(metrics.ibc(0.8, 1.0, 0.6, 1.0))


def test_savings_and_gain_over_the_best_single_model():
    costs, qualities = array(1, 2, 4), array(0.5, 0.8, 0.88)
    assert metrics.cost_saved(costs, qualities, 0.8, 8.0) == pytest.approx(0.75)
    assert np.isnan(metrics.cost_saved(costs, qualities, 0.9, 8.0))
    assert metrics.performance_gain(qualities, 0.8) == pytest.approx(0.1)


def test_flips():
    assert metrics.flips(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == 0.25
