"""How much a correction is to be trusted: the penalty of a ridge by its marginal likelihood.

Ridge regression is the mean of a Gaussian process whose signal-to-noise ratio is one over the
penalty (Rasmussen & Williams, *Gaussian Processes for Machine Learning*, §5.4.1). The likelihood of
the labels under it uses every label at once and so is far steadier than cross-validation where there
are a few hundred right-or-wrong answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.training.sparse import SparseRows

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

#: Prompts that are looked at: the ratio does not depend on their number.
_MOST_PROMPTS = 1_500
#: Labels of one model with which anything can be said.
_FEWEST_LABELS = 8
#: A smaller gain of the logarithm than this is rounding.
_LEAST_GAIN = 1e-3


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Logarithms of the likelihood of some columns: ``of`` (penalties, columns) with a correction
    at every penalty, ``without`` (columns,) with none."""

    of: Matrix
    without: Vector

    def take(self, columns: slice) -> Likelihood:
        return Likelihood(self.of[:, columns], self.without[columns])

    @property
    def best(self) -> int | None:
        """The index of the likeliest penalty; None where no correction is as likely."""
        totals = self.of.sum(axis=1)
        index = int(totals.argmax())
        return index if totals[index] > self.without.sum() + _LEAST_GAIN else None

    @property
    def highest(self) -> float:
        """The logarithm of the likelihood at the best."""
        return max(float(self.of.sum(axis=1).max()), float(self.without.sum()))


def likelihood(x: SparseRows, targets: Matrix, penalties: Sequence[float], seed: int) -> Likelihood:
    """Tell how likely ``targets`` (rows, k), NaN where unknown, are at every penalty.

    The noise of every column is taken at its likeliest. A column with hardly any label says nothing.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(x.shape[0])[:_MOST_PROMPTS])
    dense, y = x.take(rows).dense(), targets[rows]
    gram = (dense @ dense.T).astype(np.float64)
    of, without = np.zeros((len(penalties), y.shape[1])), np.zeros(y.shape[1])
    patterns, pattern_of = np.unique(~np.isnan(y), axis=1, return_inverse=True)
    for number, known in enumerate(patterns.T):
        columns = np.flatnonzero(pattern_of == number)
        count = int(known.sum())
        if count < _FEWEST_LABELS:
            continue
        values, vectors = np.linalg.eigh(gram[np.ix_(known, known)])
        squares = np.square(vectors.T @ y[np.ix_(known, columns)])
        without[columns] = -0.5 * count * _log_mean(squares)
        for i, penalty in enumerate(penalties):
            ratio = 1.0 + np.maximum(values, 0.0) / penalty
            noise = _log_mean(squares / ratio[:, None])
            of[i, columns] = -0.5 * (np.log(ratio).sum() + count * noise)
    return Likelihood(of, without)


def _log_mean(squares: Matrix) -> Vector:
    return np.asarray(np.log(np.maximum(squares.mean(axis=0), 1e-300)))
