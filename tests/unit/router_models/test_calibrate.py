import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_models.artifact import load_suite
from router_models.calibration import GROUP, POINTS, Calibration, alike, map_quality
from router_models.ensemble import Stacking, widen
from router_models.evaluation.evaluate import evaluate
from router_models.evaluation.metrics import ece
from router_models.training.calibrate import fit_calibration, fit_stacking, isotonic_map
from router_models.training.dataset import read_routing_data
from router_models.types import ArtifactError, DataError, Estimates

SHARES = st.floats(0, 1)


def drawn(prompts=3_000, seed=0):
    """Raw quality that is too sure of itself, of two models, and right or wrong answers."""
    draw = np.random.default_rng(seed)
    truth = draw.uniform(0.2, 0.9, size=(prompts, 2))
    scores = (draw.random((prompts, 2)) < truth).astype(float)
    return np.clip(0.5 + 1.8 * (truth - 0.5), 0, 1), scores, truth


@pytest.fixture(scope="module")
def suite(trained):
    return load_suite(trained)


@given(arrays(float, st.integers(1, 200), elements=SHARES), st.randoms(use_true_random=False))
def test_a_map_rises_strictly_within_bounds_whatever_it_is_fitted_on(raw, random):
    scores = np.array([random.random() for _ in raw])
    fitted = isotonic_map(raw, scores)
    assert fitted.shape == (POINTS,)
    assert (np.diff(fitted) > 0).all()
    assert fitted.min() >= 0
    assert fitted.max() <= 1


def test_completed_scores_outside_the_scale_leave_quality_inside_it():
    raw, scores, *_ = drawn(400)
    loud = 0.95 + 4.0 * (scores - scores.mean())  # as errors divided by small chances are
    fitted = isotonic_map(raw.ravel(), loud.ravel())
    assert fitted.min() >= 0.0
    assert fitted.max() <= 1.0
    assert np.all(np.diff(fitted) > 0)


@given(arrays(float, (5, 4), elements=SHARES))
def test_a_shared_map_changes_no_choice(raw):
    maps = np.tile(isotonic_map(*(a.ravel() for a in drawn(200)[:2])), (4, 1))
    mapped = map_quality(maps, raw)
    for row, found in zip(raw, mapped, strict=True):
        assert found[row.argmax()] == found.max()


def test_calibration_repairs_what_is_too_sure_of_itself():
    raw, scores, _ = drawn()
    folds = np.arange(len(raw)) % 5
    fitted = fit_calibration(("a", "b"), raw, scores, ["t"] * len(raw), folds)
    new, outcomes, _ = drawn(10_000, seed=1)
    for model in range(2):
        assert ece(new[:, model], outcomes[:, model]) > 0.08
        assert ece(fitted.quality(new)[:, model], outcomes[:, model]) < 0.03


def test_models_get_maps_of_their_own_where_they_err_differently():
    raw, scores, truth = drawn()
    raw = np.column_stack([np.clip(truth[:, 0] - 0.15, 0, 1), truth[:, 1]])
    folds = np.arange(len(raw)) % 5
    fitted = fit_calibration(("a", "b"), raw, scores, ["t"] * len(raw), folds)
    assert not np.allclose(fitted.maps[0], fitted.maps[1])
    same = fit_calibration(("a", "b"), *drawn()[:2], ["t"] * len(raw), folds)
    assert same.shared.shape == (POINTS,)


def test_nine_groups_of_right_or_wrong_answers_in_ten_lie_inside_the_interval():
    raw, scores, _ = drawn()
    tasks = ["x" if i % 3 else "y" for i in range(len(raw))]
    fitted = fit_calibration(("a", "b"), raw, scores, tasks, np.arange(len(raw)) % 5)
    new, outcomes, _ = drawn(seed=2)
    estimates = [fitted.apply(Estimates(("a", "b"), row, row, row, np.ones(2))) for row in new]
    ends = np.array([(e.quality_low, e.quality_high) for e in estimates])
    inside = []
    for model in range(2):
        quality = np.array([e.quality[model] for e in estimates])
        groups = alike(quality, np.zeros(len(new), np.int64))
        for group in np.unique(groups):
            members = groups == group
            mean = outcomes[members, model].mean()
            low, high = ends[members, :, model].mean(axis=0)
            inside.append(low <= mean <= high)
    assert 0.83 <= np.mean(inside) <= 0.97


@given(st.integers(1, 300), st.integers(1, 4), st.integers(0, 9))
def test_groups_are_of_one_task_and_of_nearly_one_size(prompts, tasks, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(tasks, size=prompts)
    groups = alike(draw.random(prompts), labels)
    for group in range(groups.max() + 1):
        members = groups == group
        assert len(set(labels[members])) == 1
        own = int((labels == labels[members][0]).sum())
        assert min(own, GROUP) <= members.sum() < 2 * GROUP


def test_a_model_that_came_later_has_the_shared_map_and_the_widest_interval():
    maps = np.linspace([0, 0.1], [0.8, 0.9], POINTS).T
    made = Calibration(("a", "b"), maps, maps.mean(axis=0), np.array([-1, -2.0]), np.ones(2))
    arranged = made.of(("b", "new"))
    np.testing.assert_array_equal(arranged.maps, [maps[1], maps.mean(axis=0)])
    assert arranged.error_low.tolist() == [-2, -2]


def test_stacking_believes_the_better_router():
    draw = np.random.default_rng(0)
    truth = draw.random((500, 3))
    good, bad = truth + 0.01 * draw.normal(size=truth.shape), draw.random((500, 3))
    assert fit_stacking("score", truth, bad, good).difference > 0.95
    assert fit_stacking("score", truth, good, bad).difference < 0.05
    half = fit_stacking("score", truth, truth - 0.1, truth + 0.1)
    assert half.level == pytest.approx(0.5)


def estimates(models, quality):
    values = np.array(quality)
    return Estimates(tuple(models), values, values, values, np.ones(len(values)))


def test_a_model_that_only_the_pilots_know_keeps_its_place():
    stacking = Stacking("score", level=0.0, difference=0.0)
    both = stacking.combine(estimates("ab", [0.5, 0.6]), estimates("abc", [0.3, 0.4, 0.45]))
    np.testing.assert_allclose(both.quality, [0.5, 0.6, 0.65])
    removed = stacking.combine(estimates("ab", [0.5, 0.6]), estimates("bc", [0.4, 0.3]))
    assert removed.models == ("b", "c")
    np.testing.assert_allclose(removed.quality, [0.6, 0.5])


def test_disagreement_widens_the_interval():
    both = estimates("ab", [0.5, 0.5])
    wider = widen(both, [np.array([0.2, 0.5]), np.array([0.9, 0.5])])
    assert (wider.quality_low.tolist(), wider.quality_high.tolist()) == ([0.2, 0.5], [0.9, 0.5])


def test_the_ensemble_s_interval_holds_both_routers(suite):
    for prompt in ("def f(x):", "How many apples?", "What is claimed is a device"):
        both = suite.score(prompt, "ensemble")
        for kind in ("perceptive", "retriever"):
            said = suite.score(prompt, kind).quality
            assert (both.quality_low <= said).all()
            assert (said <= both.quality_high).all()


@pytest.mark.parametrize("kind", ["perceptive", "retriever", "ensemble"])
def test_every_router_of_the_shipped_outcomes_can_be_believed(suite, expert_library, kind):
    report = evaluate(suite.named(kind), read_routing_data(expert_library))
    assert report.policy("router").optimal_strict.value >= 0.98
    for row in report.calibration:
        assert row.ece.value <= 0.03
        assert 0.75 <= row.coverage.value <= 1


def test_a_router_that_is_not_there_is_named(suite):
    with pytest.raises(DataError, match="no ensemble router; it has perceptive, retriever"):
        replace(suite, stacking=None).named("ensemble")


def test_maps_that_do_not_rise_are_refused(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    with np.load(copy / "calibration.npz") as archive:
        arrays_ = dict(archive)
    arrays_["perceptive.shared"] = arrays_["perceptive.shared"][::-1].copy()
    np.savez(copy / "calibration.npz", **arrays_)
    manifest = json.loads((copy / "manifest.json").read_text())
    digest = hashlib.sha256((copy / "calibration.npz").read_bytes()).hexdigest()
    manifest["files"]["calibration.npz"] = digest
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"'perceptive\.shared' does not rise"):
        load_suite(copy)
