"""Fit one head: what every model's outcome is, given the task, the words and the shape of a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.perceptive.model import Head
from router_models.training.prior import likeliest_ratios
from router_models.training.ridge import ridge_path
from router_models.training.sparse import Floats, Indices, SparseRows

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

#: Prompts that the mean over models counts for against a model's own prompts.
_MODEL_PRIOR = 1.0
#: Prompts that trust is told from: of how models differ, which routes, and of what they share.
_PROMPTS_FOR_DEPARTURES = 800
_PROMPTS_FOR_LEVELS = 400
#: Shares of its likeliest trust that words and shape may get for departures.
_SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Encoded training prompts and what cross-validation knows of them.

    The first ``words`` columns of ``x`` tell what a prompt is about, the others its shape.
    ``folds`` (prompts,) names the fold that holds a prompt out; ``posterior`` (prompts, tasks) was
    predicted by a classifier that had not seen the prompt.
    """

    x: SparseRows
    words: int
    folds: Indices
    posterior: Matrix


@dataclass(frozen=True, slots=True)
class Trust:
    """Signal-to-noise ratios of what the tasks, the words and the shape tell; 0 where nothing."""

    tasks: float
    words: float
    shape: float


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A head, its correction per row of the table, and honest predictions of its training data.

    ``weights`` has shape (columns of x, models), ``out_of_fold`` (prompts, models). ``departures``
    says what is trusted for how a model differs from the others, ``levels`` for what they share.
    ``log_likelihood`` is what the evidence adds to that of the models' means, for the departures.
    """

    head: Head
    weights: Floats
    out_of_fold: Matrix
    departures: Trust
    levels: Trust
    log_likelihood: float


def fit_head(evidence: Evidence, targets: Matrix, seed: int = 0) -> FittedHead:
    """Fit means, task offsets and corrections; ``targets`` (prompts, models), NaN where unknown.

    Every outcome has two parts, and each is fitted with the trust that makes it likeliest: how hard
    the prompt is for all models, and how each model departs from that, which alone decides routing.
    The likelihood takes labels for Gaussian, and where they are not it can trust words far too much:
    so for departures held-out prompts have the last word.
    """
    fit = _Fit(evidence, targets, seed)
    mean, weights = fit.on(np.arange(len(targets)))
    columns = evidence.x.shape[1]
    out_of_fold = np.empty_like(targets)
    for fold in np.unique(evidence.folds):
        held = np.flatnonzero(evidence.folds == fold)
        own_mean, own_weights = fit.on(np.flatnonzero(evidence.folds != fold))
        out_of_fold[held] = own_mean + fit.x.take(held).times(own_weights)
    return FittedHead(
        head=Head(mean, weights[columns:].astype(np.float64)),
        weights=weights[:columns],
        out_of_fold=out_of_fold,
        departures=Trust(*fit.departures.tolist()),
        levels=Trust(*fit.levels.tolist()),
        log_likelihood=fit.log_likelihood,
    )


class _Fit:
    """What is fitted again for every fold: the trust is told once, from all prompts."""

    def __init__(self, evidence: Evidence, targets: Matrix, seed: int) -> None:
        self.targets = targets
        self.x = evidence.x.beside(evidence.posterior.astype(np.float32))
        tasks = evidence.posterior.shape[1]
        shapes = evidence.x.shape[1] - evidence.words
        self.kinds = np.repeat([1, 2, 0], [evidence.words, shapes, tasks])
        parts = _parts(targets - _means(targets))
        order = np.random.default_rng(seed).permutation(len(targets))
        rows = np.sort(order[:_PROMPTS_FOR_DEPARTURES])
        self.departures, self.log_likelihood = self._trust(rows, parts[:, :-1])
        rows = np.sort(order[:_PROMPTS_FOR_LEVELS])
        self.levels, _ = self._trust(rows, parts[:, -1:])
        self.departures = self._steadied(evidence.folds)

    def on(self, rows: Indices) -> tuple[Vector, Floats]:
        """Return every model's mean, and weights (columns of x and tasks, models)."""
        targets = self.targets[rows]
        mean = _means(targets)
        parts = _parts(targets - mean)
        x = self.x.take(rows)
        departures = self._weights(x, parts[:, :-1], self.departures)
        return mean, departures + self._weights(x, parts[:, -1:], self.levels)

    def _steadied(self, folds: Indices) -> Vector:
        """Return the departures' trust, in words and shape cut to what held-out prompts bear out.

        The smallest share is taken whose error is within one standard error of the least (Breiman et
        al., *Classification and Regression Trees*, §3.4.3): in a tie, the tasks decide.
        """
        tried = [self.departures * (1.0, share, share) for share in _SHARES]
        if not self.departures[1:].any():
            return self.departures
        errors = np.zeros((len(tried), len(self.targets)))
        for fold in np.unique(folds):
            held, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            mean = _means(self.targets[rest])
            known = _parts(self.targets[rest] - mean)[:, :-1]
            truth = _parts(self.targets[held] - mean)[:, :-1]
            x, x_held = self.x.take(rest), self.x.take(held)
            for errors_of, ratios in zip(errors, tried, strict=True):
                wrong = truth - x_held.times(self._weights(x, known, ratios))
                errors_of[held] = np.nan_to_num(np.square(wrong)).sum(axis=1)
        worse = errors - errors[errors.mean(axis=1).argmin()]
        spread = worse.std(axis=1) / np.sqrt(len(self.targets))
        return tried[int(np.flatnonzero(worse.mean(axis=1) <= spread)[-1])]

    def _trust(self, rows: Indices, part: Matrix) -> tuple[Vector, float]:
        dense = self.x.take(rows).dense()
        kinds = [np.ascontiguousarray(dense[:, self.kinds == kind]) for kind in range(3)]
        return likeliest_ratios(kinds, part[rows])

    def _weights(self, x: SparseRows, part: Matrix, ratios: Vector) -> Floats:
        """The mean of the process: a ridge with penalty one on evidence scaled by its trust."""
        scales = np.sqrt(ratios)[self.kinds].astype(np.float32)
        if not scales.any():
            return np.zeros((x.shape[1], part.shape[1]), np.float32)
        (weights,) = ridge_path(x.scaled(scales), part, (1.0,))
        return np.asarray(scales[:, None] * weights)


def _means(targets: Matrix) -> Vector:
    """Return every model's mean, shrunk to that of all models."""
    known = ~np.isnan(targets)
    counts = known.sum(axis=0)
    sums = np.where(known, targets, 0.0).sum(axis=0)
    overall = sums.sum() / max(counts.sum(), 1)
    return np.asarray((sums + _MODEL_PRIOR * overall) / (counts + _MODEL_PRIOR))


def _parts(residual: Matrix) -> Matrix:
    """Divide into every model's departure and, as the last column, what the models share."""
    known = ~np.isnan(residual)
    sums = np.where(known, residual, 0.0).sum(axis=1)
    counts = np.maximum(known.sum(axis=1), 1)
    shared = np.where(known.any(axis=1), sums / counts, np.nan)
    return np.column_stack([residual - shared[:, None], shared])
