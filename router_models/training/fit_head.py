"""Fit one head: what every model's outcome is, given the task and the words of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.perceptive.model import Head
from router_models.training.prior import likelihood
from router_models.training.ridge import ridge_path
from router_models.training.sparse import Floats, Indices, SparseRows

Matrix = NDArray[np.float64]

#: Prompts that the overall mean counts for against a task's own prompts.
_TASK_PRIOR = 10.0
#: How much of what least squares would trust the tasks with is tried; words may tell the rest.
_TASK_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
#: Prompts that the mean over models counts for against a model's own prompts.
_MODEL_PRIOR = 1.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Encoded training prompts and what cross-validation knows of them.

    ``folds`` (prompts,) names the fold that holds a prompt out; ``labels`` (prompts,) its task;
    ``posterior`` (prompts, tasks) was predicted by a classifier that had not seen the prompt.
    """

    x: SparseRows
    folds: Indices
    labels: Indices
    posterior: Matrix


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A head, its correction per row of the table, and honest predictions of its training data.

    ``weights`` has shape (columns of x, models), ``out_of_fold`` (prompts, models). A penalty of
    infinity stands for no correction. ``log_likelihood`` is that of how the models differ, given
    what the task tells: higher for an encoder that explains it better.
    """

    head: Head
    weights: Floats
    out_of_fold: Matrix
    task_share: float
    shared_penalty: float
    model_penalty: float
    log_likelihood: float


def fit_head(
    evidence: Evidence, targets: Matrix, penalties: Sequence[float], seed: int = 0
) -> FittedHead:
    """Fit means, task offsets and corrections; ``targets`` (prompts, models), NaN where unknown.

    The correction has two parts with a penalty each, the likeliest: how hard the prompt is for
    all models, and how each model departs from that, which alone decides routing.
    """
    models = targets.shape[1]
    guesses = _cross_validate_tasks(evidence, targets)
    divided = [_parts(targets - guess.outcome) for guess in guesses]
    found = likelihood(evidence.x, np.hstack(divided), penalties, seed)
    told = [found.take(slice(i, i + models)) for i in range(0, found.of.shape[1], models + 1)]
    chosen_guess = int(np.argmax([each.highest for each in told]))
    base, task_share = guesses[chosen_guess].outcome, guesses[chosen_guess].share
    parts, departing = divided[chosen_guess], told[chosen_guess]
    model_choice = departing.best
    last = chosen_guess * (models + 1) + models
    shared_choice = found.take(slice(last, last + 1)).best
    predicted = _cross_validate_ridge(evidence, parts, penalties)
    weights = np.zeros((evidence.x.shape[1], models), np.float32)
    out_of_fold = base
    chosen = [(model_choice, slice(0, models)), (shared_choice, slice(models, None))]
    if any(choice is not None for choice, _ in chosen):
        fitted = ridge_path(evidence.x, parts, penalties)
        for choice, part in chosen:
            if choice is not None:
                weights = weights + fitted[choice][:, part]
                out_of_fold = out_of_fold + predicted[choice][:, part]
    mean, offsets = _task_means(evidence, targets, np.arange(len(targets)))
    return FittedHead(
        head=Head(mean, task_share * offsets),
        weights=weights,
        out_of_fold=out_of_fold,
        task_share=task_share,
        shared_penalty=np.inf if shared_choice is None else penalties[shared_choice],
        model_penalty=np.inf if model_choice is None else penalties[model_choice],
        log_likelihood=departing.highest,
    )


def _task_means(evidence: Evidence, targets: Matrix, rows: Indices) -> tuple[Matrix, Matrix]:
    """Return every model's mean and every task's shrunk offset from it, over the given rows."""
    known = ~np.isnan(targets[rows])
    counts = known.sum(axis=0)
    sums = np.where(known, targets[rows], 0.0).sum(axis=0)
    overall = sums.sum() / max(counts.sum(), 1)
    mean = (sums + _MODEL_PRIOR * overall) / (counts + _MODEL_PRIOR)
    offsets = np.zeros((evidence.posterior.shape[1], targets.shape[1]))
    centred = np.where(known, targets[rows] - mean, 0.0)
    for task in range(len(offsets)):
        members = evidence.labels[rows] == task
        offsets[task] = centred[members].sum(axis=0) / (known[members].sum(axis=0) + _TASK_PRIOR)
    return mean, offsets


@dataclass(frozen=True, slots=True)
class _Guess:
    """What the tasks alone tell of held-out prompts, (prompts, models), when trusted this far."""

    outcome: Matrix
    share: float


def _cross_validate_tasks(evidence: Evidence, targets: Matrix) -> list[_Guess]:
    """Predict every prompt from the other folds' means, trusting the tasks' offsets more and less."""
    means, offsets = np.zeros_like(targets), np.zeros_like(targets)
    for fold in np.unique(evidence.folds):
        held = np.flatnonzero(evidence.folds == fold)
        mean, by_task = _task_means(evidence, targets, np.flatnonzero(evidence.folds != fold))
        means[held] = mean
        offsets[held] = evidence.posterior[held] @ by_task
    known = ~np.isnan(targets)
    energy = float(np.square(offsets[known]).sum())
    best = float((offsets * (targets - means))[known].sum()) / energy if energy > 0 else 0.0
    best = min(max(best, 0.0), 1.0)
    shares = [best * part for part in _TASK_SHARES] if best else [0.0]
    return [_Guess(means + share * offsets, share) for share in shares]


def _parts(residual: Matrix) -> Matrix:
    """Divide into every model's departure and, as the last column, what the models share."""
    shared = _row_means(residual)
    return np.column_stack([residual - shared[:, None], shared])


def _cross_validate_ridge(
    evidence: Evidence, parts: Matrix, penalties: Sequence[float]
) -> list[Matrix]:
    """Predict every prompt's parts at every penalty from the other folds."""
    predicted = [np.zeros_like(parts) for _ in penalties]
    for fold in np.unique(evidence.folds):
        held = np.flatnonzero(evidence.folds == fold)
        rest = np.flatnonzero(evidence.folds != fold)
        path = ridge_path(evidence.x.take(rest), parts[rest], penalties)
        x = evidence.x.take(held)
        for prediction, weights in zip(predicted, path, strict=True):
            prediction[held] = x.times(weights)
    return predicted


def _row_means(values: Matrix) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), np.nan)
