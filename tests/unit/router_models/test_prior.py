"""The penalty that the labels themselves ask for."""

import numpy as np
import pytest

from router_models.training.prior import likelihood
from tests.unit.router_models.test_fitting import sparse

PENALTIES = (0.1, 1.0, 10.0, 100.0)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(400, 30)).astype(np.float32)


def labels(x: np.ndarray, penalty: float, seed: int, columns: int = 20) -> np.ndarray:
    draw = np.random.default_rng(seed)
    weights = draw.normal(size=(x.shape[1], columns)) / penalty**0.5
    return x @ weights + draw.normal(size=(len(x), columns))


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_the_penalty_that_made_the_labels_is_the_likeliest(x, number):
    assert likelihood(sparse(x), labels(x, PENALTIES[number], 1), PENALTIES, 0).best == number


def test_noise_asks_for_no_correction(x):
    wins = [
        likelihood(sparse(x), np.random.default_rng(s).normal(size=(400, 20)), PENALTIES, 0).best
        for s in range(5)
    ]
    assert wins == [None] * 5


def test_it_is_the_density_of_a_normal_distribution(x):
    y = labels(x, 1.0, 2, columns=1)
    penalty = 10.0
    found = likelihood(sparse(x), y, (penalty,), 0)
    covariance = x @ x.T.astype(np.float64) / penalty + np.eye(400)
    noise = float(y[:, 0] @ np.linalg.solve(covariance, y[:, 0])) / 400
    log_det = np.linalg.slogdet(covariance)[1]
    assert found.of[0, 0] == pytest.approx(-0.5 * (log_det + 400 * np.log(noise)), rel=1e-4)


def test_missing_labels_are_left_out_and_empty_columns_say_nothing(x):
    y = labels(x, 1.0, 3, columns=3)
    y[200:, 1] = np.nan
    y[:, 2] = np.nan
    found = likelihood(sparse(x), y, PENALTIES, 0)
    half = likelihood(sparse(x[:200]), y[:200, 1:2], PENALTIES, 0)
    np.testing.assert_allclose(found.of[:, 1], half.of[:, 0], rtol=1e-4)
    assert not found.of[:, 2].any()
    assert found.take(slice(2, 3)).best is None
