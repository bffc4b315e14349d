"""How far the predicted quality of every model can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router_models.calibration import alike, means_of
from router_models.evaluation import metrics
from router_models.evaluation.bootstrap import Interval, Resamples, interval_of
from router_models.evaluation.predictions import Predictions
from router_models.evaluation.report import ModelRow
from router_models.training.dataset import RoutingData


def calibration_rows(
    data: RoutingData, predicted: Predictions, resamples: Resamples, seed: int = 0
) -> tuple[ModelRow, ...]:
    """Compare predicted quality with the measured score, model by model."""
    rows = []
    for model, name in enumerate(data.models):
        known = ~np.isnan(data.scores[:, model])
        truth = np.where(known, data.scores[:, model], 0.0)
        quality = predicted.quality[:, model]
        errors = metrics.calibration_errors(quality, truth) * known[:, None]
        totals = resamples.sums(np.column_stack([errors, known]))
        with np.errstate(invalid="ignore", divide="ignore"):
            ece = np.abs(totals[:, :-1]).sum(axis=1) / totals[:, -1]
        rows.append(
            ModelRow(
                model=name,
                prompts=int(known.sum()),
                ece=interval_of(ece),
                brier=interval_of(
                    resamples.means(np.where(known, np.square(quality - truth), np.nan))
                ),
                ece_perfect=perfect_ece(quality[known], truth[known]),
                coverage=_coverage(data, predicted, model, seed),
                bins=_bins(quality[known], truth[known]),
            )
        )
    return tuple(rows)


def _coverage(data: RoutingData, predicted: Predictions, model: int, seed: int) -> Interval:
    """Share of groups of like prompts whose mean score lies in their mean interval."""
    known = np.flatnonzero(~np.isnan(data.scores[:, model]))
    if not known.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    tasks = np.unique(data.tasks, return_inverse=True)[1][known]
    groups = alike(predicted.quality[known, model], tasks)
    score = means_of(groups, data.scores[known, model])
    low = means_of(groups, predicted.quality_low[known, model])
    high = means_of(groups, predicted.quality_high[known, model])
    inside = ((score >= low) & (score <= high)).astype(np.float64)
    return interval_of(Resamples.draw(len(inside), seed).means(inside))


def perfect_ece(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """ECE that chance alone gives a router whose bins are all predicted right.

    A bin's mean of n scores misses its expectation by sqrt(2/π) standard errors on average.
    """
    if not truth.size:
        return float("nan")
    bins = metrics.ece_bins(predicted)
    sizes = np.bincount(bins)
    some = sizes > 0
    mean = np.bincount(bins, weights=truth)[some] / sizes[some]
    square = np.bincount(bins, weights=np.square(truth))[some] / sizes[some]
    deviations = np.sqrt(np.maximum(square - np.square(mean), 0.0) * sizes[some])
    return float(np.sqrt(2 / np.pi) * deviations.sum() / truth.size)


def _bins(
    predicted: NDArray[np.float64], truth: NDArray[np.float64]
) -> tuple[tuple[float, float, int], ...]:
    bins = metrics.ece_bins(predicted)
    return tuple(
        (float(predicted[m].mean()), float(truth[m].mean()), int(m.sum()))
        for m in (bins == b for b in np.unique(bins))
    )
