"""Corrections fitted to which model does better on a prompt, and by how much it matters.

Squared error asks for every outcome; where models are nearly alike, what it learns of their order is
lost in what they share, and a router drifts to the model that is best on average ("routing collapse",
arXiv 2602.03478). Here every pair of models of a prompt counts by the difference of its outcomes:

    Σ |y_a - y_b| · log(1 + exp(-(f_a - f_b) / T)),  a the better of the two

f is what least squares predicts, plus the correction that is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.training.minimise import Flat, minimise
from router_models.training.sparse import Floats, Indices, SparseRows

Matrix = NDArray[np.float64]

#: Strengths of the pull towards the outcomes' own predictions; infinity leaves them as they are.
_PENALTIES = (1e-3, 1e-2, 1e-1)
_TEMPERATURES = np.geomspace(0.02, 2.0, 21)
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Ranked:
    """``weights`` (columns, models) and what they add to held-out predictions, (prompts, models).

    ``loss`` is the mean ranking loss of held-out prompts, ``loss_before`` without the correction.
    """

    weights: Floats
    out_of_fold: Matrix
    penalty: float
    loss: float
    loss_before: float


def fit_ranking(
    x: SparseRows, targets: Matrix, predicted: Matrix, folds: Indices, *, higher_is_better: bool
) -> Ranked | None:
    """Fit a correction of ``predicted`` to the order in ``targets``, (prompts, models), NaN unknown.

    ``predicted`` was made without each prompt's fold. None where no correction orders the models of
    held-out prompts better, or where no prompt has two models that differ.
    """
    sign = 1.0 if higher_is_better else -1.0
    truth, base = sign * targets, sign * predicted
    if not _weights(truth).any():
        return None
    temperature = min(_TEMPERATURES, key=lambda t: _loss(truth, base / t))
    before = _loss(truth, base / temperature)
    best: tuple[float, float, Matrix] | None = None
    for penalty in _PENALTIES:
        added = np.zeros_like(base)
        for fold in np.unique(folds):
            held, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            fitted = _fit(x.take(rest), truth[rest], base[rest], temperature, penalty)
            added[held] = x.take(held).times(fitted)
        loss = _loss(truth, (base + added) / temperature)
        if loss < (before if best is None else best[0]):
            best = loss, penalty, added
    if best is None:
        return None
    loss, penalty, added = best
    weights = _fit(x, truth, base, temperature, penalty) * np.float32(sign)
    return Ranked(weights, sign * added, penalty, loss, before)


def _fit(x: SparseRows, truth: Matrix, base: Matrix, temperature: float, penalty: float) -> Floats:
    by_column, shape = x.transposed(), (x.shape[1], truth.shape[1])
    total = float(_weights(truth).sum()) or 1.0

    def objective(flat: Flat) -> tuple[float, Flat]:
        weights = flat.reshape(shape)
        loss, slope = _slope(truth, (base + x.times(weights)) / temperature)
        loss = loss / total + 0.5 * penalty * float(np.square(weights, dtype=np.float64).sum())
        errors = (slope / (temperature * total)).astype(np.float32)
        return loss, (by_column.times(errors) + np.float32(penalty) * weights).ravel()

    return minimise(objective, np.zeros(shape[0] * shape[1], np.float32)).reshape(shape)


def _loss(truth: Matrix, scores: Matrix) -> float:
    return _slope(truth, scores)[0] / max(float(_weights(truth).sum()), 1e-12)


def _slope(truth: Matrix, scores: Matrix) -> tuple[float, Matrix]:
    """Return the summed loss over all pairs and its slope along every score."""
    slope, loss = np.zeros_like(scores), 0.0
    for begin in range(0, len(truth), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        weights = _weights(truth[rows])
        lead = scores[rows][:, :, None] - scores[rows][:, None, :]
        loss += float((weights * np.logaddexp(0.0, -lead)).sum())
        pull = weights / (1.0 + np.exp(np.clip(lead, -50.0, 50.0)))
        slope[rows] = pull.sum(axis=1) - pull.sum(axis=2)
    return loss, slope


def _weights(truth: Matrix) -> Matrix:
    """How far every model is ahead of every other, (prompts, models, models); 0 where it is not."""
    apart = truth[:, :, None] - truth[:, None, :]
    return np.maximum(np.nan_to_num(apart), 0.0)
