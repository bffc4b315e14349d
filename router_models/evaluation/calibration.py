"""How far the predicted quality of every model can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation import metrics
from router_models.evaluation.bootstrap import Resamples, interval_of
from router_models.evaluation.predictions import Predictions
from router_models.evaluation.report import ModelRow
from router_models.training.dataset import RoutingData


def calibration_rows(
    data: RoutingData, predicted: Predictions, resamples: Resamples
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
        inside = (truth >= predicted.quality_low[:, model]) & (
            truth <= predicted.quality_high[:, model]
        )
        rows.append(
            ModelRow(
                model=name,
                prompts=int(known.sum()),
                ece=interval_of(ece),
                brier=interval_of(
                    resamples.means(np.where(known, np.square(quality - truth), np.nan))
                ),
                coverage=interval_of(resamples.means(np.where(known, inside, np.nan))),
                bins=_bins(quality[known], truth[known]),
            )
        )
    return tuple(rows)


def _bins(
    predicted: NDArray[np.float64], truth: NDArray[np.float64]
) -> tuple[tuple[float, float, int], ...]:
    bins = np.minimum((predicted * metrics.ECE_BINS).astype(np.int64), metrics.ECE_BINS - 1)
    return tuple(
        (float(predicted[m].mean()), float(truth[m].mean()), int(m.sum()))
        for m in (bins == b for b in np.unique(bins))
    )
