"""The trust in each kind of evidence that the labels themselves ask for."""

import numpy as np
import pytest

from router_models.training.prior import Group, likeliest_ratios


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)


def labels(x: np.ndarray, ratio: float, seed: int, columns: int = 20) -> np.ndarray:
    draw = np.random.default_rng(seed)
    weights = draw.normal(size=(x.shape[1], columns)) * ratio**0.5
    return x @ weights + draw.normal(size=(len(x), columns))


@pytest.mark.parametrize("ratio", [0.01, 0.1, 1.0, 10.0])
def test_the_ratio_that_made_the_labels_is_found(x, ratio):
    found, gain = likeliest_ratios([x], labels(x, ratio, 1))
    assert found[0] == pytest.approx(ratio, rel=0.3)
    assert gain > 5


def test_every_part_gets_its_own(x):
    other = np.random.default_rng(5).normal(size=(200, 10)).astype(np.float32)
    told = labels(x, 1.0, 1) + other @ np.random.default_rng(2).normal(size=(10, 20)) * 0.15
    found, _ = likeliest_ratios([x, np.zeros((200, 0), np.float32), other], told)
    assert found[0] == pytest.approx(1.0, rel=0.4)
    assert found[1] == 0
    assert found[2] == pytest.approx(0.0225, rel=0.6)


def test_noise_is_hardly_trusted(x):
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(size=(200, 20))
        assert likeliest_ratios([x], noise)[0][0] < 1e-3


def test_few_labels_leave_what_is_usual(x):
    few = np.full((200, 1), np.nan)
    few[:8, 0] = np.random.default_rng(3).normal(size=8)
    assert 0.005 < likeliest_ratios([x / 6], few)[0][0] < 2
    assert likeliest_ratios([x], np.full((200, 2), np.nan)) == (0.0, 0.0)
    assert likeliest_ratios([x], np.zeros((200, 2))) == (0.0, 0.0)


def test_it_is_the_density_of_a_normal_distribution(x):
    y = labels(x, 1.0, 2, columns=2)
    covariance = x @ x.T.astype(np.float64) / 10 + np.eye(200)
    log_det = np.linalg.slogdet(covariance)[1]
    noise = (y * np.linalg.solve(covariance, y)).sum(axis=0) / 200
    group = Group([x @ x.T], y.astype(np.float32))
    value, _ = group.likelihood(np.array([0.1]))
    assert value == pytest.approx(-0.5 * (2 * log_det + 200 * np.log(noise).sum()), rel=1e-4)


def test_its_slope_is_the_change_of_its_value(x):
    other = np.random.default_rng(6).normal(size=(200, 3)).astype(np.float32)
    group = Group([x @ x.T, other @ other.T], labels(x, 0.3, 4, columns=3).astype(np.float32))
    at, step = np.array([0.2, 0.5]), 0.01
    slope = group.likelihood(at)[1]
    for part in range(2):
        away = np.eye(2)[part] * step
        rise = group.likelihood(at + away)[0] - group.likelihood(at - away)[0]
        assert rise / (2 * step) == pytest.approx(slope[part], rel=0.05)


def test_missing_labels_are_left_out(x):
    y = labels(x, 1.0, 3, columns=4)
    holes = np.vstack([y, np.full((100, 4), np.nan)])
    holes[200:, 3] = 1e6
    wide = np.vstack([x, np.full((100, 30), 0.01, np.float32)])
    whole, _ = likeliest_ratios([x], y[:, :3])
    holed, _ = likeliest_ratios([wide], holes[:, :3])
    assert holed == pytest.approx(whole)
