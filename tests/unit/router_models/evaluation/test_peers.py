"""Peers on prompts whose best model is known from their words."""

import numpy as np
import pytest

from router_models.evaluation import peers
from router_models.evaluation.baselines import pick_highest
from router_models.evaluation.evaluate import evaluate
from router_models.evaluation.peer_heads import HeadShape, fit_gradient_head
from router_models.evaluation.peers import PEERS, Labelled
from router_models.training.dataset import read_routing_data
from router_models.training.train import train
from tests.unit.router_models.conftest import outcome_rows

NAN = float("nan")


@pytest.fixture(scope="module")
def rows():
    return outcome_rows(prompts_per_task=150)


def labelled(x, losses, tasks=None):
    x = np.array(x, np.float32)
    return Labelled(x, np.array(losses, float), np.array(tasks or ["t"] * len(x)), True)


AXES = [[1, 0], [1, 0], [0, 1], [0, 1]]
LOSSES = [[0.0, 1.0], [0.2, 0.8], [1.0, 0.0], [0.6, NAN]]


def test_every_peer_learns_which_words_go_to_which_model(rows, write):
    report = evaluate(
        train(read_routing_data(write(rows)).training())[0],
        data := read_routing_data(write(rows)),
        with_peers=True,
    )
    assert report.peers == tuple(PEERS)
    assert report.peer_prompts == len(data.training().prompts)
    single = report.policy("best single").mean_loss.value
    for name in PEERS:
        assert report.policy(name).mean_loss.value < single - 0.1, name
    assert [pair.policy for pair in report.peer_pairs] == list(PEERS)


def test_without_training_prompts_there_are_no_peers(rows, write):
    data = read_routing_data(write(rows))
    router, _ = train(data.training())
    only = read_routing_data(write([r for r in rows if r["split"] != "train"]))
    report = evaluate(router, only, with_peers=True)
    assert report.peers == ()
    assert report.peer_prompts == 0
    few = data.take(np.arange(peers.MIN_PROMPTS - 1))
    assert peers.peer_preferences(few, data) == {}


def test_peers_do_not_see_the_evaluated_outcomes(rows, write):
    data = read_routing_data(write(rows))
    held = data.evaluation()
    turned = type(held)(
        **{f: getattr(held, f) for f in held.__slots__} | {"scores": 1 - held.scores}
    )
    before, after = (peers.peer_preferences(data.training(), h) for h in (held, turned))
    for name in PEERS:
        np.testing.assert_array_equal(before[name], after[name])


def test_nearest_takes_the_mean_of_the_measured_neighbours():
    predict = peers.fit_nearest(labelled(AXES, LOSSES), 0, k=2)
    np.testing.assert_allclose(
        predict(np.array([[1, 0], [0, 1]], np.float32)), [[-0.1, -0.9], [-0.8, 0.0]], atol=1e-7
    )
    # Where no neighbour was measured, the model's mean stands.
    alone = peers.fit_nearest(labelled(AXES, [[0, 0.5], [0, 0.7], [0, NAN], [0, NAN]]), 0, k=2)
    assert alone(np.array([[0, 1]], np.float32))[0, 1] == pytest.approx(-0.6)


def test_clusters_find_the_two_groups():
    predict = peers.fit_clusters(labelled(AXES * 5, LOSSES * 5), 1, k=2)
    picks = pick_highest(predict(np.array([[1, 0], [0, 1]], np.float32)), np.zeros((2, 2)))
    assert picks.argmax(axis=1).tolist() == [0, 1]


def test_the_literal_rule_averages_similarity_over_all_pilots_of_a_model():
    # Task a: model 0 wins at (1, 0), model 1 at (0, 1). Task b: model 0 wins at (0, 1).
    predict = peers.fit_pilots(
        labelled([[1, 0], [0, 1], [0, 1]], [[0, 1], [1, 0], [0, 1]], ["a", "a", "b"]), 0
    )
    np.testing.assert_allclose(predict(np.array([[0, 1]], np.float32)), [[0.5, 1.0]])


def test_a_model_that_never_wins_is_never_preferred_by_the_literal_rule():
    predict = peers.fit_pilots(labelled(AXES, [[0, 1]] * 4), 0)
    assert predict(np.array([[1, 0]], np.float32))[0, 1] == -np.inf


@pytest.mark.parametrize(
    "shape", [HeadShape(), HeadShape(8), HeadShape(8, relu=True), HeadShape(logistic=False)]
)
def test_a_head_recovers_what_generated_the_labels(shape):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(600, 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = np.column_stack([x[:, 0] > 0, x[:, 0] <= 0]).astype(float)
    scores[draw.random(scores.shape) < 0.2] = NAN
    predicted = fit_gradient_head(x[:500], scores[:500], shape, 0)(x[500:])
    right = predicted.argmax(axis=1) == (x[500:, 0] <= 0)
    assert right.mean() > 0.9


def test_a_head_gives_the_same_bits_again():
    x = np.eye(16, dtype=np.float32)
    scores = np.tile([[1.0, 0.0], [0.0, 1.0]], (8, 1))
    first, second = (fit_gradient_head(x, scores, HeadShape(4, relu=True), 3)(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
