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
    evidence = Evidence(sparse(np.eye(200)), 200, np.arange(200) % 5, np.eye(20)[tasks])
    ratios = []
    for seed in range(10):
        targets = np.random.default_rng(seed).normal(size=(200, 2))
        fitted = fit_head(evidence, targets)
        errors = np.square(targets - fitted.out_of_fold).mean()
        ratios.append(errors / np.square(targets - targets.mean(axis=0)).mean())
        assert fitted.departures.tasks < 0.1
    assert np.mean(ratios) > 0.99


def test_what_words_tell_is_learnt_and_predicted_out_of_fold(dense):
    truth = np.random.default_rng(7).normal(size=(40, 2))
    targets = dense @ truth
    evidence = Evidence(sparse(dense), 40, np.arange(150) % 5, np.zeros((150, 0)))
    fitted = fit_head(evidence, targets)
    assert fitted.departures.words > 1
    assert fitted.departures.shape == fitted.departures.tasks == 0
    errors = np.square(targets - fitted.out_of_fold).mean()
    assert errors < 0.2 * np.square(targets - targets.mean(axis=0)).mean()


def test_the_head_is_the_mean_of_the_process(dense):
    """With the trust it names, the prediction is the textbook's: K (K + I)⁻¹ y."""
    draw = np.random.default_rng(8)
    tasks = np.eye(3)[draw.integers(0, 3, 150)]
    targets = (
        dense[:, :1] * [[2.0, -2.0]] + tasks @ draw.normal(size=(3, 2)) + draw.normal(size=(150, 2))
    )
    fitted = fit_head(Evidence(sparse(dense), 30, np.arange(150) % 5, tasks), targets)
    mean = fitted.head.mean
    residual = targets - mean
    shared = residual.mean(axis=1, keepdims=True)
    expected = mean.copy()
    for part, trust in ((residual - shared, fitted.departures), (shared, fitted.levels)):
        kernel = trust.tasks * tasks @ tasks.T + trust.words * dense[:, :30] @ dense[:, :30].T
        kernel += trust.shape * dense[:, 30:] @ dense[:, 30:].T
        expected = expected + kernel @ np.linalg.solve(kernel + np.eye(150), part)
    found = fitted.head.predict(tasks, sparse(dense).times(fitted.weights))
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_dense_columns_stand_beside_sparse_ones(dense):
    beside = np.random.default_rng(9).normal(size=(150, 4)).astype(np.float32)
    both = sparse(dense).beside(beside)
    np.testing.assert_allclose(both.dense(), np.hstack([dense, beside]), atol=1e-6)
    scales = np.arange(44, dtype=np.float32)
    np.testing.assert_allclose(both.scaled(scales).dense(), both.dense() * scales, atol=1e-5)
    assert sparse(dense).beside(beside[:, :0]).shape == (150, 40)


def test_a_text_without_evidence_has_the_odds_of_the_tasks(dense):
    labels = np.repeat([0, 1, 2], [15, 45, 90])
    fitted = fit_tasks(sparse(dense), labels, 3, 0.01)
    np.testing.assert_allclose(softmax(fitted.bias.astype(float)), [0.1, 0.3, 0.6], atol=1e-6)
