"""How far predictions are from what was measured, told in the ways that training needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

#: The share of truths that the interval is built to hold.
COVERAGE = 0.9


def error_bounds(errors: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bound truth minus prediction per model by out-of-fold quantiles, shape (models,) each.

    Split-conformal ranks (Vovk et al., 2005; Barber et al., 2021 for cross-validation): with n
    errors the bounds are the floor((n + 1) · 5 %)-th from either end, so COVERAGE holds on average.
    """
    pooled = errors[~np.isnan(errors)]
    low, high = np.empty(errors.shape[1]), np.empty(errors.shape[1])
    for model in range(errors.shape[1]):
        own = errors[:, model][~np.isnan(errors[:, model])]
        if own.size < 40:
            own = pooled
        ordered = np.sort(own)
        rank = max(int((ordered.size + 1) * (1 - COVERAGE) / 2), 1)
        low[model], high[model] = ordered[rank - 1], ordered[-rank]
    return np.minimum(low, 0.0), np.maximum(high, 0.0)


def routing_error(targets: Matrix, predicted: Matrix) -> float:
    """Squared error of how models differ on a prompt: what all share cannot change a choice."""
    errors = targets - predicted
    return mean_square(errors - np.nanmean(errors, axis=1, keepdims=True))


def mean_square(errors: Matrix) -> float:
    return float(np.nanmean(np.square(errors)))
