"""Outcomes of single choices, completed so that a router can be trained on them.

A log tells of every prompt how one model did, and of the models that were not asked nothing. Which
one was asked depended on the prompt, so that plain means compare easy prompts with hard ones. Where
the chance of the choice is known, every model's score can be estimated without that bias (doubly
robust: Dudík et al., arXiv 1103.4601; as regression targets: Kennedy, arXiv 2004.14497): start from
what similar prompts lead to expect, and add the error of that for the model asked, divided by its
chance. Such targets may lie outside [0, 1]; their means do not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.encoders.lexical import fit_lexical
from router_models.training.dataset import TRAIN, RoutingData
from router_models.training.latent import principal_axes, spherical_k_means, unit_rows
from router_models.training.sparse import encode_all
from router_models.types import DataError

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Least chance that an error is divided by: rarer choices would be louder than they are right.
LEAST_CHANCE = 1 / 30
#: What a group of like prompts has on average, at least: requests of each model, and prompts.
_GROUP_REQUESTS, _GROUP_PROMPTS = 25, 100
_MOST_GROUPS = 64
_MAX_ROWS = 8_192
_DIMENSIONS = 64
_FOLDS = 5
_PASSES = 20
#: Requests that the broader mean counts for: of a group, of a model, of a model in a group.
_GROUP_PRIOR, _MODEL_PRIOR, _BOTH_PRIOR = 5.0, 10.0, 20.0
#: Requests that the group's mean counts for against a prompt's own.
PROMPT_PRIOR = 1.0


@dataclass(frozen=True, slots=True)
class LoggedScores:
    """Scored requests; the arrays have shape (requests,).

    ``prompt_of`` and ``model_of`` are places in ``prompts`` and ``models``, ``scores`` lie in [0, 1].
    ``chances`` tell how likely the model was to be asked, NaN where nobody drew it: such a request
    counts as an outcome, not as a fair draw. ``completion_tokens`` are NaN where unknown.
    """

    prompts: tuple[str, ...]
    models: tuple[str, ...]
    prompt_of: Indices
    model_of: Indices
    scores: Vector
    chances: Vector
    completion_tokens: Vector


@dataclass(frozen=True, slots=True)
class _Seen:
    """Outcomes by group of prompts and model: all three of shape (outcomes,)."""

    groups: Indices
    models: Indices
    scores: Vector

    def take(self, rows: NDArray[np.bool_]) -> _Seen:
        return _Seen(self.groups[rows], self.models[rows], self.scores[rows])


def complete(
    logged: LoggedScores, measured: RoutingData | None = None, seed: int = 0
) -> RoutingData:
    """Return training data with a score of every model for every logged prompt.

    ``measured`` outcomes, if any, are added as they are and help to expect the logged ones. Tasks
    are groups of like prompts, found by clustering. Raises DataError when there is nothing.
    """
    models = tuple(sorted({*logged.models, *(measured.models if measured else ())}))
    texts = (*logged.prompts, *(measured.prompts if measured else ()))
    if not texts or len(models) < 2:
        raise DataError("there are no scored requests of two or more models to learn from")
    own = len(logged.prompts)
    known = _scores_of(measured, models)
    model_of = np.array([models.index(model) for model in logged.models], np.int64)[logged.model_of]
    rows, columns = np.nonzero(~np.isnan(known))
    prompt_of = np.concatenate([logged.prompt_of, own + rows])
    by_requests = len(prompt_of) // (_GROUP_REQUESTS * len(models))
    count = max(min(by_requests, len(texts) // _GROUP_PROMPTS), 2)
    groups = _group(texts, min(count, _MOST_GROUPS, len(texts)), seed)
    seen = _Seen(
        groups[prompt_of],
        np.concatenate([model_of, columns]),
        np.concatenate([logged.scores, known[rows, columns]]),
    )
    expected = _expect_held_out(seen, prompt_of, groups, len(models), seed)[:own]
    scores = np.vstack([_corrected(expected, logged, model_of), known])
    tokens = np.full((len(texts), len(models)), np.nan)
    tokens[logged.prompt_of, model_of] = logged.completion_tokens
    if measured is not None:
        tokens[own:, [models.index(m) for m in measured.models]] = measured.completion_tokens
    return RoutingData(
        prompt_ids=tuple(f"prompt-{place}" for place in range(len(texts))),
        prompts=texts,
        tasks=tuple(f"group-{group}" for group in groups),
        splits=(TRAIN,) * len(texts),
        models=models,
        scores=scores,
        losses=None,
        prompt_tokens=np.full(len(texts), np.nan),
        completion_tokens=tokens,
        sha256=_digest(texts, scores),
    )


def _scores_of(measured: RoutingData | None, models: tuple[str, ...]) -> Matrix:
    """Lay measured scores out over all models, (prompts, models)."""
    if measured is None:
        return np.empty((0, len(models)))
    scores = np.full((len(measured.prompts), len(models)), np.nan)
    scores[:, [models.index(model) for model in measured.models]] = measured.scores
    return scores


def _group(texts: tuple[str, ...], count: int, seed: int) -> Indices:
    """Cluster prompts by their words; the group of each, (prompts,)."""
    rows = encode_all(fit_lexical(texts, max_rows=_MAX_ROWS, use_idf=True), texts)
    if not rows.shape[1]:
        return np.zeros(len(texts), np.int64)
    axes = principal_axes(rows, _DIMENSIONS, seed)
    return spherical_k_means(unit_rows(rows.times(axes)), count, seed)[1]


def _expect_held_out(
    seen: _Seen, prompt_of: Indices, groups: Indices, models: int, seed: int
) -> Matrix:
    """Expect every model's score from other prompts alone, (prompts, models)."""
    fold_of = np.random.default_rng(seed).permutation(len(groups)) % _FOLDS
    expected = np.empty((len(groups), models))
    for fold in range(_FOLDS):
        table = _expect(seen.take(fold_of[prompt_of] != fold), int(groups.max()) + 1, models)
        held = fold_of == fold
        expected[held] = table[groups[held]]
    return expected


def _expect(seen: _Seen, groups: int, models: int) -> Matrix:
    """Mean score by group and model, (groups, models).

    How hard the group is, plus how good the model is, plus what both together add, each drawn to
    the broader mean where little was seen. The first two are fitted in turn (backfitting).
    """
    if not seen.scores.size:
        return np.full((groups, models), 0.5)
    overall = float(seen.scores.mean())
    in_group = np.bincount(seen.groups, minlength=groups)
    of_model = np.bincount(seen.models, minlength=models)
    hardness, skill = np.full(groups, overall), np.zeros(models)
    for _ in range(_PASSES):
        rest = np.bincount(seen.groups, seen.scores - skill[seen.models], groups)
        hardness = (rest + _GROUP_PRIOR * overall) / (in_group + _GROUP_PRIOR)
        rest = np.bincount(seen.models, seen.scores - hardness[seen.groups], models)
        skill = rest / (of_model + _MODEL_PRIOR)
    rest = seen.scores - hardness[seen.groups] - skill[seen.models]
    cell = seen.groups * models + seen.models
    sums = np.bincount(cell, rest, groups * models)
    both = sums / (np.bincount(cell, minlength=groups * models) + _BOTH_PRIOR)
    return np.asarray(hardness[:, None] + skill + both.reshape(groups, models))


def _corrected(expected: Matrix, logged: LoggedScores, model_of: Indices) -> Matrix:
    """Add the errors of what was expected, divided by their chance; the mean over repetitions.

    What a prompt's other requests tell of how hard it is, is expected of each, too: the errors that
    are left are smaller, and no score explains itself.
    """
    prompt_of, prompts = logged.prompt_of, len(expected)
    errors = logged.scores - expected[prompt_of, model_of]
    asked = np.bincount(prompt_of, minlength=prompts)
    others = np.bincount(prompt_of, errors, prompts)[prompt_of] - errors
    hardness = others / (asked[prompt_of] - 1 + PROMPT_PRIOR)
    chances = np.where(np.isnan(logged.chances), 1.0, logged.chances)
    sums = np.tile(np.bincount(prompt_of, hardness, prompts)[:, None], expected.shape[1])
    weighed = (errors - hardness) / np.maximum(chances, LEAST_CHANCE)
    np.add.at(sums, (prompt_of, model_of), weighed)
    return np.asarray(expected + sums / np.maximum(asked, 1)[:, None])


def _digest(texts: tuple[str, ...], scores: Matrix) -> str:
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "replace"))
    digest.update(np.ascontiguousarray(scores).tobytes())
    return digest.hexdigest()
