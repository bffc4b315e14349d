"""Fit the maps, the intervals and the stacking on predictions for prompts that were held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router_models.calibration import POINTS, Calibration, alike, map_quality, means_of, spread
from router_models.ensemble import Stacking
from router_models.perceptive.model import Target
from router_models.training.errors import COVERAGE, routing_error

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Prompts of a bin at least, and bins at most: isotonic regression runs on the bins' means.
_BIN = 25
_MOST_BINS = 30
#: Share of the identity in every map: it keeps what is flat rising, so that no choice is tied.
_RISE = 0.02
#: Groups of one model from which its own interval is read; with fewer all models share theirs.
_MIN_GROUPS = 20


def fit_calibration(
    models: tuple[str, ...], raw: Matrix, scores: Matrix, tasks: Sequence[str], folds: Indices
) -> Calibration:
    """Fit on held-out raw quality and measured scores, (prompts, models), NaN where unknown.

    Models get maps of their own if, fitted on the other folds, these route no worse than the raw
    quality, which the shared map orders alike, and tell the models' differences better than it does.
    """
    own, alike_for_all = np.empty_like(raw), np.empty_like(raw)
    for fold in np.unique(folds):
        held, rest = folds == fold, folds != fold
        own[held] = map_quality(_own_maps(raw[rest], scores[rest]), raw[held])
        alike_for_all[held] = map_quality(_shared_maps(raw[rest], scores[rest]), raw[held])
    is_better = _routed(own, scores) >= _routed(raw, scores) and (
        routing_error(scores, own) < routing_error(scores, alike_for_all)
    )
    shared = _shared_maps(raw, scores)
    maps = _own_maps(raw, scores) if is_better else shared
    labels = np.unique(tasks, return_inverse=True)[1]
    low, high = _interval(map_quality(maps, raw), scores, labels)
    return Calibration(models, maps, shared[0], low, high)


def fit_stacking(target: Target, targets: Matrix, perceived: Matrix, retrieved: Matrix) -> Stacking:
    """Fit the retriever's two shares by least squares on held-out outcomes, (prompts, models)."""
    known = ~np.isnan(targets)
    change = np.where(known, retrieved - perceived, np.nan)
    wanted = targets - perceived
    level = np.nanmean(change, axis=1, keepdims=True)
    wanted_level = np.nanmean(wanted, axis=1, keepdims=True)
    return Stacking(
        target,
        level=_share(level, wanted_level),
        difference=_share(change - level, wanted - wanted_level),
    )


def isotonic_map(raw: Vector, scores: Vector) -> Vector:
    """Return the mean score at evenly spaced raw values, (POINTS,), rising strictly.

    Pool-adjacent-violators on the means of bins of equal size; beyond the outermost bins it runs
    parallel to the identity.
    """
    known = ~np.isnan(scores)
    order = np.argsort(raw[known], kind="stable")
    x, y = raw[known][order], scores[known][order]
    grid = np.linspace(0.0, 1.0, POINTS)
    if x.size < _BIN:
        return grid
    bins = np.array_split(np.arange(x.size), min(_MOST_BINS, max(x.size // _BIN, 1)))
    blocks: list[tuple[float, float, int]] = []
    for rows in bins:
        block = float(x[rows].mean()), float(y[rows].mean()), rows.size
        while blocks and blocks[-1][1] >= block[1]:
            block = _pooled(blocks.pop(), block)
        blocks.append(block)
    at = np.array([b[0] for b in blocks])
    # Scores that were completed (training.logged) may lie outside [0, 1], and so may a bin's mean.
    mean = np.clip([b[1] for b in blocks], 0.0, 1.0)
    at = np.concatenate([[0.0], at, [1.0]])
    ends = max(0.0, mean[0] - at[1]), min(1.0, mean[-1] + 1.0 - at[-2])
    mean = np.concatenate([[ends[0]], mean, [ends[1]]])
    return np.asarray((1.0 - _RISE) * np.interp(grid, at, mean) + _RISE * grid)


def _own_maps(raw: Matrix, scores: Matrix) -> Matrix:
    return np.array([isotonic_map(raw[:, m], scores[:, m]) for m in range(raw.shape[1])])


def _shared_maps(raw: Matrix, scores: Matrix) -> Matrix:
    return np.tile(isotonic_map(raw.ravel(), scores.ravel()), (raw.shape[1], 1))


def _interval(quality: Matrix, scores: Matrix, tasks: Indices) -> tuple[Vector, Vector]:
    """Bound a group's error by the ranks of the held-out groups' errors (split-conformal)."""
    own = []
    for model in range(quality.shape[1]):
        known = ~np.isnan(scores[:, model])
        if known.any():
            groups = alike(quality[known, model], tasks[known])
            mean = means_of(groups, quality[known, model])
            own.append((means_of(groups, scores[known, model]) - mean) / spread(mean))
        else:
            own.append(np.zeros(0))
    pooled = np.concatenate(own)
    ends = [_ranks(e if e.size >= _MIN_GROUPS else pooled) for e in own]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _ranks(errors: Vector) -> tuple[float, float]:
    ordered = np.sort(errors)
    rank = max(int((ordered.size + 1) * (1 - COVERAGE) / 2), 1)
    return min(float(ordered[rank - 1]), 0.0), max(float(ordered[-rank]), 0.0)


def _routed(quality: Matrix, scores: Matrix) -> float:
    """Mean score of the best predicted of the measured models."""
    liked = np.where(np.isnan(scores), -np.inf, quality)
    return float(scores[np.arange(len(scores)), liked.argmax(axis=1)].mean())


def _share(change: Matrix, wanted: Matrix) -> float:
    energy = float(np.nansum(np.square(change)))
    return min(max(float(np.nansum(change * wanted)) / energy, 0.0), 1.0) if energy > 0 else 0.0


def _pooled(
    first: tuple[float, float, int], second: tuple[float, float, int]
) -> tuple[float, float, int]:
    count = first[2] + second[2]
    share = second[2] / count
    return (
        first[0] + share * (second[0] - first[0]),
        first[1] + share * (second[1] - first[1]),
        count,
    )
