"""Corrections of many models at once, through a few skills that they share.

With few labels a model, each model's own ridge learns little but noise; what they have in common does:

    departure(prompt, m) = z(prompt)ᵀ · A · b(m)

with z the prompt's strongest directions and the odds of its tasks, ``A`` (directions, rank) the skills
that a prompt asks for and ``b(m)`` (rank,) a model's embedding (EmbedLLM 2410.02223, matrix
factorisation in RouteLLM 2406.18665). Fitted by alternating ridge regressions; the product is a table
of weights like any other. It takes the place of the models' own corrections; what all models share of
a prompt stays theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from router_models.training.errors import routing_error
from router_models.training.latent import principal_axes
from router_models.training.sparse import Floats, Indices, SparseRows

Matrix = NDArray[np.float64]

#: With fewer models than this each has labels enough, or there is nothing to share.
FEWEST_MODELS = 12
_DIRECTIONS = 32
_RANKS = (1, 2, 4, 8)
_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
_ROUNDS = 6
#: Standard errors by which held-out errors must fall for the skills to be believed.
_LEAST_GAIN = 2.0


@dataclass(frozen=True, slots=True)
class Skills:
    """How models depart from their means: ``weights`` (columns, models) of a prompt's words and
    ``offsets`` (tasks, models); both sum to nothing over the models.

    ``out_of_fold`` (prompts, models) are departures, the means' among them, told of held-out prompts.
    """

    weights: Floats
    offsets: Matrix
    out_of_fold: Matrix
    rank: int
    penalty: float


def fit_skills(
    x: SparseRows, posterior: Matrix, targets: Matrix, predicted: Matrix, folds: Indices, seed: int
) -> Skills | None:
    """Fit the skills behind ``targets``, (prompts, models), NaN where unknown.

    ``posterior`` (prompts, tasks) and ``predicted``, which the models' own corrections say, were made
    without each prompt's fold. None where held-out prompts are not told better than by ``predicted``,
    and by more than two standard errors; or where there are too few models.
    """
    if targets.shape[1] < FEWEST_MODELS:
        return None
    axes = principal_axes(x, _DIRECTIONS, seed)
    z = np.hstack([x.times(axes).astype(np.float64), posterior])
    # The setting is chosen on some folds and believed on others: the best of many flatters itself.
    choosing = np.flatnonzero(folds % 2 == 0)
    judging = np.flatnonzero(folds % 2 == 1)
    ranks = [r for r in _RANKS if r <= min(z.shape[1], targets.shape[1])]
    best: tuple[float, int, float, Matrix] | None = None
    for rank, penalty in product(ranks, _PENALTIES):
        told = np.zeros_like(targets)
        for fold in np.unique(folds):
            held = folds == fold
            means, skills, models = _fit(z[~held], targets[~held], rank, penalty)
            told[held] = _centred(means + z[held] @ skills @ models.T)
        error = routing_error(targets[choosing], told[choosing])
        if best is None or error < best[0]:
            best = error, rank, penalty, told
    if best is None or not _is_better(targets[judging], predicted[judging], best[3][judging]):
        return None
    _, rank, penalty, told = best
    _, skills, models = _fit(z, targets, rank, penalty)
    table = _centred(skills @ models.T)
    words = axes.shape[1]
    weights = (axes.astype(np.float64) @ table[:words]).astype(np.float32)
    return Skills(weights, table[words:], told, rank, penalty)


def _fit(z: Matrix, targets: Matrix, rank: int, penalty: float) -> tuple[Matrix, Matrix, Matrix]:
    """Return the models' means (models,), the skills and the models' embeddings."""
    known = ~np.isnan(targets)
    counts, sums = known.sum(axis=0), np.where(known, targets, 0.0).sum(axis=0)
    overall = sums.sum() / max(counts.sum(), 1)
    means = (sums + overall) / (counts + 1.0)
    return means, *_alternate(z, _departures(targets - means), rank, penalty)


def _alternate(z: Matrix, rest: Matrix, rank: int, penalty: float) -> tuple[Matrix, Matrix]:
    """Return the skills (directions, rank) and the models' embeddings (models, rank)."""
    known = ~np.isnan(rest)
    values = np.where(known, rest, 0.0)
    models = _start(z, known, values, rank, penalty)
    skills = np.zeros((z.shape[1], rank))
    for _ in range(_ROUNDS):
        skills = _skills(z, known, values, models, penalty)
        models = _models(z @ skills, known, values, penalty)
    return skills, models


def _start(
    z: Matrix, known: NDArray[np.bool_], values: Matrix, rank: int, penalty: float
) -> Matrix:
    """Start from every model's own ridge regression, of which the strongest directions stay."""
    own = _models(z, known, values, penalty)
    left, strength, _ = np.linalg.svd(own, full_matrices=False)
    scaled: Matrix = left[:, :rank] * np.sqrt(strength[:rank])
    return scaled


def _models(y: Matrix, known: NDArray[np.bool_], values: Matrix, penalty: float) -> Matrix:
    """Regress every model's values on ``y`` (prompts, k) where it is known: (models, k)."""
    grams = np.einsum("pm,pk,pl->mkl", known.astype(np.float64), y, y, optimize=True)
    grams += penalty * np.eye(y.shape[1])
    found: Matrix = np.linalg.solve(grams, (values.T @ y)[:, :, None])[:, :, 0]
    return found


def _skills(
    z: Matrix, known: NDArray[np.bool_], values: Matrix, models: Matrix, penalty: float
) -> Matrix:
    """Regress all values on the products of a prompt's directions and a model's embedding."""
    directions, rank = z.shape[1], models.shape[1]
    inner = np.einsum("pm,mk,ml->pkl", known.astype(np.float64), models, models, optimize=True)
    outer = np.einsum("pa,pb->pab", z, z).reshape(len(z), -1)
    gram = (outer.T @ inner.reshape(len(z), -1)).reshape(directions, directions, rank, rank)
    gram = gram.transpose(0, 2, 1, 3).reshape(directions * rank, directions * rank)
    gram += penalty * np.eye(directions * rank)
    wanted = z.T @ (values @ models)
    return np.asarray(np.linalg.solve(gram, wanted.ravel()).reshape(directions, rank))


def _centred(values: Matrix) -> Matrix:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def _departures(errors: Matrix) -> Matrix:
    """Leave out what all measured models of a prompt share."""
    known = ~np.isnan(errors)
    counts = np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.asarray(errors - np.where(known, errors, 0.0).sum(axis=1, keepdims=True) / counts)


def _is_better(targets: Matrix, before: Matrix, after: Matrix) -> bool:
    gains = np.nansum(
        np.square(_departures(targets - before)) - np.square(_departures(targets - after)), axis=1
    )
    error = float(gains.std(ddof=1)) / len(gains) ** 0.5
    return bool(gains.mean() > _LEAST_GAIN * error)
