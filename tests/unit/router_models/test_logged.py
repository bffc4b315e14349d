"""What a log leaves out is filled in without the bias of who was asked what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router_models.training.dataset import read_routing_data
from router_models.training.logged import LEAST_CHANCE, LoggedScores, complete
from router_models.types import DataError

EASY, HARD = "apples pears plums cherries", "tensors manifolds bundles cohomology"
MODELS = ("a", "b")
#: Model b is better by .1 on everything; the log asks b for hard prompts alone, nearly always.
TRUTH = {EASY: (0.8, 0.9), HARD: (0.2, 0.3)}
EXPLORED = 0.2


def confounded(requests: int, seed: int = 0) -> LoggedScores:
    draw = np.random.default_rng(seed)
    kinds = np.array([EASY, HARD])[draw.integers(0, 2, requests)]
    prompts = tuple(f"{kind} {number}" for number, kind in enumerate(kinds))
    favourite = (kinds == HARD).astype(np.int64)
    explored = draw.random(requests) < EXPLORED
    asked = np.where(explored, draw.integers(0, 2, requests), favourite)
    chances = np.where(asked == favourite, 1 - EXPLORED / 2, EXPLORED / 2)
    means = np.array([TRUTH[kind][model] for kind, model in zip(kinds, asked, strict=True)])
    return LoggedScores(
        prompts=prompts,
        models=MODELS,
        prompt_of=np.arange(requests),
        model_of=asked,
        scores=(draw.random(requests) < means).astype(np.float64),
        chances=chances,
        completion_tokens=np.full(requests, 7.0),
    )


def test_plain_means_are_wrong_and_completed_ones_right() -> None:
    logged = confounded(4_000)
    plain = [logged.scores[logged.model_of == model].mean() for model in range(2)]
    assert plain[0] > plain[1] + 0.2, "the worse model looks better: it was asked the easy prompts"
    completed = complete(logged)
    assert completed.models == MODELS
    assert completed.scores.shape == (4_000, 2)
    assert not np.isnan(completed.scores).any()
    for kind, truth in TRUTH.items():
        rows = np.array([prompt.startswith(kind) for prompt in completed.prompts])
        # Two standard errors of a mean of 2,000 right-or-wrong scores, a tenth of which counts tenfold.
        assert completed.scores[rows].mean(axis=0) == pytest.approx(truth, abs=0.08)
    means = completed.scores.mean(axis=0)
    assert means[1] > means[0] + 0.04


def test_the_estimate_is_unbiased_over_many_logs() -> None:
    found = np.array(
        [complete(confounded(300, seed), seed=seed).scores.mean(0) for seed in range(40)]
    )
    error = found.std(axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - (0.5, 0.6)) < 3 * error)


def test_prompts_that_are_alike_are_one_group() -> None:
    completed = complete(confounded(200))
    kinds = [prompt.split()[0] for prompt in completed.prompts]
    groups = {
        kind: {t for k, t in zip(kinds, completed.tasks, strict=True) if k == kind}
        for kind in kinds
    }
    assert len(groups) == 2
    assert not set.intersection(*groups.values())


def test_a_prompt_asked_often_is_one_row_with_the_mean_of_its_scores() -> None:
    logged = confounded(100)
    often = replace(logged, prompt_of=np.arange(100) // 2, prompts=logged.prompts[:50])
    completed = complete(often)
    assert len(completed.prompts) == 50
    assert np.isfinite(completed.scores).all()


def test_rare_choices_are_not_louder_than_the_bound() -> None:
    logged = confounded(100)
    rare = replace(logged, chances=np.full(100, 1e-9))
    loudest = np.abs(complete(rare).scores).max()
    assert loudest <= 1.0 / LEAST_CHANCE + 2


def test_where_nobody_drew_the_outcome_itself_counts() -> None:
    logged = confounded(100)
    pinned = replace(logged, chances=np.full(100, np.nan))
    completed = complete(pinned)
    own = completed.scores[logged.prompt_of, logged.model_of]
    assert own == pytest.approx(logged.scores)


def test_measured_outcomes_are_added_as_they_are(rows, write) -> None:
    measured = read_routing_data(write(rows[:-1])).training()
    completed = complete(confounded(100), measured)
    assert completed.models == tuple(sorted({*MODELS, *measured.models}))
    assert completed.prompts[100:] == measured.prompts
    columns = [completed.models.index(model) for model in measured.models]
    assert np.array_equal(completed.scores[100:, columns], measured.scores, equal_nan=True)
    nobody = [i for i, model in enumerate(completed.models) if model not in measured.models]
    assert np.isnan(completed.scores[100:, nobody]).all()


def test_nothing_to_learn_from_is_an_error() -> None:
    logged = confounded(5)
    with pytest.raises(DataError, match="no scored requests of two or more models"):
        complete(replace(logged, models=("a",), model_of=np.zeros(5, np.int64)))
    empty = np.zeros(0)
    none = LoggedScores((), (), empty.astype(np.int64), empty.astype(np.int64), empty, empty, empty)
    with pytest.raises(DataError, match="no scored requests"):
        complete(none)
