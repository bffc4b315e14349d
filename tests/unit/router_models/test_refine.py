"""Skills that many models share, and the order of models, learnt beside every outcome."""

from dataclasses import replace

import numpy as np
import pytest

from router_models.training.dataset import read_routing_data
from router_models.training.low_rank import FEWEST_MODELS, fit_skills
from router_models.training.ranking import _loss, _slope, fit_ranking
from router_models.training.sparse import SparseRows
from router_models.training.suite import train_suite
from router_models.training.train import TrainingOptions, fit_perceptive
from tests.unit.router_models.conftest import outcome_rows

NAN = float("nan")
NO_TASKS = np.zeros((400, 0))


def dense_rows(x):
    count, width = x.shape
    return SparseRows(
        np.arange(0, count * width + 1, width, dtype=np.int64),
        np.tile(np.arange(width), count),
        x.astype(np.float32).ravel(),
        (count, width),
    )


def skilled(models=100, prompts=400, known=0.1, skills=2, noise=0.5, seed=0):
    """Prompts that ask for ``skills``, models that have them in their own measure; sparse labels."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(prompts, 16))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    truth = 3.0 * z @ draw.normal(size=(16, skills)) @ draw.normal(size=(skills, models)) / 4
    labels = truth + noise * draw.normal(size=truth.shape)
    labels[draw.random(labels.shape) > known] = NAN
    return z, truth, labels, np.arange(prompts) % 5


def departures(values):
    return values - values.mean(axis=1, keepdims=True)


def ridge(z, labels, penalty):
    """Every model by itself."""
    columns = []
    for column in labels.T:
        own = ~np.isnan(column)
        gram = z[own].T @ z[own] + penalty * np.eye(z.shape[1])
        columns.append(np.linalg.solve(gram, z[own].T @ column[own]))
    return np.array(columns).T


def test_a_hundred_models_with_one_label_in_ten_are_told_better_together_than_alone():
    z, truth, labels, folds = skilled()
    found = fit_skills(dense_rows(z), NO_TASKS, labels, np.zeros_like(truth), folds, 0)
    assert found is not None
    assert found.rank in (2, 4)

    def error(predicted):
        return np.square(departures(truth - predicted)).mean()

    together = error(z @ found.weights)
    # Each by itself at whichever penalty is best for it on the truth, which nobody could know.
    alone = min(error(z @ ridge(z, labels, penalty)) for penalty in (0.1, 0.3, 1, 3, 10, 30))
    assert together < 0.6 * alone
    assert together < 0.4 * error(0.0)


def test_what_is_said_of_held_out_prompts_saw_none_of_their_labels():
    z, _, labels, folds = skilled()
    first = fit_skills(dense_rows(z), NO_TASKS, labels, np.zeros_like(labels), folds, 0)
    other = np.random.default_rng(9).normal(size=labels.shape)
    changed = np.where((folds == 2)[:, None], labels + other, labels)
    second = fit_skills(dense_rows(z), NO_TASKS, changed, np.zeros_like(labels), folds, 0)
    assert first is not None
    assert second is not None
    if (first.rank, first.penalty) == (second.rank, second.penalty):
        np.testing.assert_allclose(
            first.out_of_fold[folds == 2], second.out_of_fold[folds == 2], atol=1e-9
        )
    assert not np.allclose(first.out_of_fold[folds == 1], second.out_of_fold[folds == 1])


def test_noise_has_no_skills():
    z, _, labels, folds = skilled()
    noise = np.where(np.isnan(labels), NAN, np.random.default_rng(1).normal(size=labels.shape))
    assert fit_skills(dense_rows(z), NO_TASKS, noise, np.zeros_like(noise), folds, 0) is None


def test_few_models_share_nothing():
    z, truth, labels, folds = skilled(models=FEWEST_MODELS - 1, known=1.0)
    assert fit_skills(dense_rows(z), NO_TASKS, labels, np.zeros_like(truth), folds, 0) is None


def many_models(rows, copies=20, known=0.25, seed=0):
    """Twenty coders and twenty lawyers, each measured on a few of the training prompts."""
    draw = np.random.default_rng(seed)
    return [
        r
        | {"model": f"{r['model']}-{i:02}", "score": float(draw.random() < 0.2 + 0.6 * r["score"])}
        for r in rows
        for i in range(copies)
        if r["split"] != "train" or draw.random() < known
    ]


def test_training_takes_skills_by_itself_and_routes_better_by_them(write):
    rows = [r | {"task": "all"} for r in outcome_rows(120)]
    data = read_routing_data(write(many_models(rows)))
    assert np.isnan(data.training().scores).mean() > 0.7
    suite, report = train_suite(data.training())
    plain = fit_perceptive(data.training())
    held = data.evaluation()
    assert report.refinement.rank is not None
    assert report.to_json()["refinement"]["rank"] == report.refinement.rank
    assert report.perceptive.squared_error < plain.report.squared_error

    def ordered(router):
        """How often one of the specialists is taken for better than one of the others."""
        is_coder = np.array([model.startswith("coder") for model in held.models])
        shares = []
        for prompt, task in zip(held.prompts, held.prompt_ids, strict=True):
            quality = router.score(prompt).quality
            able, other = is_coder == task.startswith("code"), is_coder != task.startswith("code")
            shares.append((quality[able][:, None] > quality[other][None, :]).mean())
        return float(np.mean(shares))

    together, alone = ordered(suite), ordered(plain.router)
    assert together > 0.9
    assert together > alone + 0.03


def test_the_slope_of_the_ranking_loss_is_its_slope():
    draw = np.random.default_rng(0)
    truth, scores = draw.random((7, 4)), draw.normal(size=(7, 4))
    truth[2, 1] = truth[3, :2] = NAN
    _, slope = _slope(truth, scores)
    for at in ((0, 0), (2, 1), (3, 0), (3, 3), (6, 2)):
        moved = scores.copy()
        moved[at] += 1e-5
        change = (_slope(truth, moved)[0] - _slope(truth, scores)[0]) / 1e-5
        assert slope[at] == pytest.approx(change, abs=1e-4)
    assert slope[2, 1] == 0
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-12)


def test_ties_and_unmeasured_pairs_count_nothing():
    truth = np.array([[1.0, 1.0], [NAN, 0.3]])
    assert _loss(truth, np.array([[5.0, -5.0], [1.0, 2.0]])) == 0
    x = dense_rows(np.eye(2))
    assert fit_ranking(x, truth, truth * 0, np.array([0, 1]), higher_is_better=True) is None


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_an_order_that_squared_error_drowns_is_learnt(higher_is_better):
    """The outcomes move together a lot; which of the two is better moves with one small direction."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ahead = np.where(x[:, 0] > 0, 0.05, -0.05)
    level = draw.normal(size=300)
    targets = np.column_stack([level + ahead, level - ahead]) * (1 if higher_is_better else -1)
    predicted = np.zeros_like(targets)
    folds = np.arange(300) % 5
    found = fit_ranking(dense_rows(x), targets, predicted, folds, higher_is_better=higher_is_better)
    assert found is not None
    assert found.loss < found.loss_before
    sign = 1 if higher_is_better else -1
    liked = sign * found.out_of_fold
    assert ((liked[:, 0] > liked[:, 1]) == (x[:, 0] > 0)).mean() > 0.95
    again = sign * (x @ found.weights)
    assert ((again[:, 0] > again[:, 1]) == (x[:, 0] > 0)).mean() > 0.95


def test_the_loss_is_an_option_of_training(rows, write):
    data = read_routing_data(write(rows)).training()
    squared, told = train_suite(data, TrainingOptions(loss="squared"))
    ranked, refined = train_suite(data, TrainingOptions(loss="ranking"))
    assert told.refinement.ranking_penalty is None
    if refined.refinement.ranking_penalty is not None:
        before, after = refined.refinement.ranking_loss_before, refined.refinement.ranking_loss
        assert after < before
        assert not np.array_equal(squared.perceptive.table, ranked.perceptive.table)
    assert refined.perceptive.options == replace(told.perceptive.options, loss="ranking")
