"""Percentile intervals over resampled prompts, the same resamples for everything compared.

Method: Efron & Tibshirani, *An Introduction to the Bootstrap*, chapter 13.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

RESAMPLES = 1_000
_TAILS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Resamples:
    """How often every prompt is drawn in every resample: ``counts`` (resamples + 1, prompts).

    Row 0 is the sample itself, so that the value and its interval come from one computation.
    """

    counts: NDArray[np.float32]

    @classmethod
    def draw(cls, prompts: int, seed: int) -> Resamples:
        shares = np.full(prompts, 1.0 / prompts)
        drawn = np.random.default_rng(seed).multinomial(prompts, shares, size=RESAMPLES)
        return cls(np.vstack([np.ones(prompts, np.float32), drawn.astype(np.float32)]))

    def sums(self, values: Matrix) -> Matrix:
        """Sum every column of ``values`` (prompts, k) in every resample, (resamples + 1, k)."""
        return np.asarray(self.counts.astype(np.float64) @ values)

    def means(self, values: Vector) -> Vector:
        """Mean of values (prompts,) in every resample; prompts with NaN do not count."""
        known = ~np.isnan(values)
        columns = np.column_stack([np.where(known, values, 0.0), known])
        totals = self.sums(columns)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(totals[:, 0] / totals[:, 1])

    def drawn(self) -> Iterator[NDArray[np.int64]]:
        """Give the indices of the prompts that every resample drew, itself first."""
        prompts = np.arange(self.counts.shape[1])
        return (np.repeat(prompts, c.astype(np.int64)) for c in self.counts)


def interval_of(resampled: Vector) -> Interval:
    """Return the value of row 0 and the percentiles of the rest."""
    value, rest = float(resampled[0]), resampled[1:][~np.isnan(resampled[1:])]
    if not rest.size or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(rest, _TAILS)
    return Interval(value, float(low), float(high))
