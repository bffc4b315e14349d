"""The numerical parts against textbook solutions."""

import numpy as np
import pytest

from router_models.perceptive.model import softmax
from router_models.training.fit_head import Evidence, fit_head
from router_models.training.minimise import minimise
from router_models.training.ridge import ridge_path
from router_models.training.sparse import SparseRows
from router_models.training.task_posterior import fit_tasks


def sparse(dense: np.ndarray) -> SparseRows:
    start = np.concatenate([[0], np.cumsum((dense != 0).sum(axis=1))])
    rows, columns = np.nonzero(dense)
    return SparseRows(start, columns, dense[rows, columns].astype(np.float32), dense.shape)


@pytest.fixture
def dense() -> np.ndarray:
    draw = np.random.default_rng(1)
    matrix = draw.normal(size=(150, 40)) * (draw.random((150, 40)) < 0.2)
    matrix[[0, 70, 149]] = 0
    return matrix.astype(np.float32).astype(np.float64)


def test_products_with_a_sparse_matrix(dense):
    x = sparse(dense)
    right = np.random.default_rng(2).normal(size=(40, 3)).astype(np.float32)
    left = np.random.default_rng(3).normal(size=(150, 2)).astype(np.float32)
    np.testing.assert_allclose(x.times(right), dense @ right, atol=1e-4)
    np.testing.assert_allclose(x.transposed().times(left), dense.T @ left, atol=1e-4)
    some = np.array([5, 0, 149, 5, 17])
    np.testing.assert_allclose(x.take(some).times(right), dense[some] @ right, atol=1e-4)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_ridge_solves_the_normal_equations(dense, missing):
    draw = np.random.default_rng(4)
    y = draw.normal(size=(150, 3))
    y[draw.random(y.shape) < missing] = np.nan
    penalties = (0.5, 5.0)
    for penalty, weights in zip(penalties, ridge_path(sparse(dense), y, penalties), strict=True):
        for column in range(3):
            known = ~np.isnan(y[:, column])
            x = dense[known]
            exact = np.linalg.solve(x.T @ x + penalty * np.eye(40), x.T @ y[known, column])
            np.testing.assert_allclose(weights[:, column], exact, atol=2e-3)


def test_ridge_of_nothing_is_nothing(dense):
    assert not ridge_path(sparse(dense), np.zeros((150, 1)), (1.0,))[0].any()


def test_minimise_finds_the_bottom_of_a_bowl():
    scales = np.array([1.0, 10.0, 100.0], np.float32)
    bottom = np.array([3.0, -2.0, 1.0], np.float32)

    def bowl(x):
        return float((scales * (x - bottom) ** 2).sum()), 2 * scales * (x - bottom)

    np.testing.assert_allclose(minimise(bowl, np.zeros(3, np.float32)), bottom, atol=1e-3)


def test_the_classifier_is_where_its_slope_is_zero(dense):
    labels = np.random.default_rng(5).integers(0, 3, 150)
    penalty = 0.01
    fitted = fit_tasks(sparse(dense), labels, 3, penalty)
    errors = (softmax(dense @ fitted.weights + fitted.bias) - np.eye(3)[labels]) / 150
    slope = dense.T @ errors + penalty * fitted.weights
    assert np.abs(slope).max() < 2e-3 * np.abs(dense.T @ (np.eye(3)[labels] - 1 / 3)).max()


def test_noise_that_could_be_memorised_is_not_taken_for_skill():
    """Every prompt has a word of its own, so a fit that sees a prompt can recall its outcome."""
    tasks = np.arange(200) // 10
    evidence = Evidence(sparse(np.eye(200)), np.arange(200) % 5, tasks, np.eye(20)[tasks])
    ratios = []
    for seed in range(10):
        targets = np.random.default_rng(seed).normal(size=(200, 2))
        fitted = fit_head(evidence, targets, (0.1, 1.0))
        errors = np.square(targets - fitted.out_of_fold).mean()
        ratios.append(errors / np.square(targets - targets.mean(axis=0)).mean())
        assert not fitted.weights.any()
    assert np.mean(ratios) > 0.99


def test_what_words_tell_is_learnt_and_predicted_out_of_fold(dense):
    truth = np.random.default_rng(7).normal(size=(40, 2))
    targets = dense @ truth
    nothing = np.zeros(150, np.int64)
    evidence = Evidence(sparse(dense), np.arange(150) % 5, nothing, np.zeros((150, 0)))
    fitted = fit_head(evidence, targets, (0.1, 1.0, 100.0))
    assert fitted.model_penalty == 0.1
    errors = np.square(targets - fitted.out_of_fold).mean()
    assert errors < 0.2 * np.square(targets - targets.mean(axis=0)).mean()


def test_a_text_without_evidence_has_the_odds_of_the_tasks(dense):
    labels = np.repeat([0, 1, 2], [15, 45, 90])
    fitted = fit_tasks(sparse(dense), labels, 3, 0.01)
    np.testing.assert_allclose(softmax(fitted.bias.astype(float)), [0.1, 0.3, 0.6], atol=1e-6)
