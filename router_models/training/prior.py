"""How far each kind of evidence is to be trusted, by the marginal likelihood of the labels.

What tasks, words and shape tell of a prompt are the parts of one Gaussian process (Rasmussen &
Williams, *Gaussian Processes for Machine Learning*, §5.4.1): a part's ratio of signal to noise is
how much a prediction leans on it, and ridge regression at that ratio is the process's mean. The
likelihood uses every label at once and so is far steadier than cross-validation where there are a
few hundred right-or-wrong answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router_models.training.minimise import Flat, minimise
from router_models.training.sparse import Floats

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

#: What is believed of every ratio beforehand: log-normal about this, and this wide.
_USUAL = 0.1
_WIDTH = 3.0
#: Steps uphill: a ratio is known well enough to a tenth or two.
_STEPS = 10
#: Labels of one model with which anything can be said.
_FEWEST_LABELS = 8
#: Models that were measured on the same prompts are told together. Groups are looked at, the largest
#: first, while the cubes of their prompts add up to no more than this: what a step costs.
_MOST_WORK = 2 * 1_000**3


def likeliest_ratios(evidence: Sequence[Floats], targets: Matrix) -> tuple[Vector, float]:
    """Find the signal-to-noise ratios at which the labels are likeliest, and that log-likelihood.

    ``evidence`` holds a matrix (rows, features) for every part, ``targets`` is (rows, k), NaN where
    unknown; all columns share the ratios and have each their own noise. A part without features
    gets 0. The log-likelihood is compared with that of no evidence at all.
    """
    groups = _groups(evidence, targets)
    parts = np.array([part for part, each in enumerate(evidence) if each.shape[1]], np.int64)
    ratios = np.zeros(len(evidence))
    if not groups or not parts.size:
        return ratios, 0.0

    def objective(logs: Flat) -> tuple[float, Flat]:
        ratios[parts] = np.exp(np.clip(logs, -12.0, 6.0))
        values, slopes = zip(*(group.likelihood(ratios) for group in groups), strict=True)
        away = (logs - np.log(_USUAL)) / _WIDTH**2
        value = float(sum(values)) - 0.5 * float(np.square(away * _WIDTH).sum())
        slope = np.sum(slopes, axis=0)[parts] * ratios[parts] - away
        return -value, -slope.astype(np.float32)

    start = np.full(parts.size, np.log(_USUAL), np.float32)
    ratios[parts] = np.exp(np.clip(minimise(objective, start, iterations=_STEPS), -12.0, 6.0))

    best, without = (
        float(sum(group.likelihood(tried)[0] for group in groups))
        for tried in (ratios, np.zeros_like(ratios))
    )
    return ratios, best - without


class Group:
    """Columns of labels that are known for the same rows."""

    def __init__(self, grams: list[Floats], labels: Floats) -> None:
        self.grams, self.labels = grams, labels

    def likelihood(self, ratios: Vector) -> tuple[float, Vector]:
        """Return the logarithm at its likeliest noise, and its slope with every ratio."""
        count, columns = self.labels.shape
        covariance = np.eye(count, dtype=np.float32)
        for ratio, gram in zip(ratios, self.grams, strict=True):
            if ratio:
                covariance += np.float32(ratio) * gram
        lower = np.linalg.cholesky(covariance)
        inverse = np.linalg.inv(covariance)
        weights = inverse @ self.labels
        energies = np.maximum((self.labels * weights).sum(axis=0), 1e-30)
        log_det = 2.0 * float(np.log(np.diagonal(lower)).sum())
        value = -0.5 * (columns * log_det + count * float(np.log(energies / count).sum()))
        slopes = [
            0.5 * count * float(((weights * (gram @ weights)).sum(axis=0) / energies).sum())
            - 0.5 * columns * float(np.vdot(inverse, gram))
            for gram in self.grams
        ]
        return value, np.array(slopes)


def _groups(evidence: Sequence[Floats], targets: Matrix) -> list[Group]:
    patterns, pattern_of = np.unique(~np.isnan(targets), axis=1, return_inverse=True)
    sizes = patterns.sum(axis=0) * np.bincount(pattern_of, minlength=patterns.shape[1])
    chosen = [
        p for p in np.argsort(-sizes, kind="stable") if patterns[:, p].sum() >= _FEWEST_LABELS
    ]
    groups: list[Group] = []
    work = 0
    for pattern in chosen:
        known = patterns[:, pattern]
        work += int(known.sum()) ** 3
        if groups and work > _MOST_WORK:
            break
        labels = targets[np.ix_(known, pattern_of == pattern)]
        told = labels[:, labels.any(axis=0)]
        if told.shape[1]:
            grams = [e[known] @ e[known].T for e in evidence]
            groups.append(Group(grams, told.astype(np.float32)))
    return groups
