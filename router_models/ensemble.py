"""The perceptive router and the retriever as one: stacked where both speak (Wolpert, 1992).

Two weights of the retriever, fitted on predictions for prompts that neither had seen: one for how
hard a prompt is for all models, one for how the models differ on it, which alone decides routing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_models.perceptive.model import Target, to_quality
from router_models.types import Estimates, Vector

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stacking:
    """``level`` and ``difference`` are the retriever's shares, in [0, 1]."""

    target: Target
    level: float
    difference: float

    def combine(self, perceived: Estimates, retrieved: Estimates) -> Estimates:
        """Combine raw estimates; the result is of the retriever's models, in its order.

        A model that only the pilots know keeps its place among the others as the retriever sees it.
        Intervals hold the quality of both: where they disagree, they are wider.
        """
        own, theirs, alone = _shared(perceived.models, retrieved.models)
        outcomes = to_outcome(retrieved.quality, self.target)
        before = to_outcome(perceived.quality[own], self.target)
        mixed = outcomes.copy()
        mixed[theirs] = self.mix(before, outcomes[theirs])
        if alone.size and theirs.size:
            mixed[alone] += (mixed[theirs] - outcomes[theirs]).mean()
        tokens = retrieved.output_tokens.copy()
        tokens[theirs] = perceived.output_tokens[own]
        quality = to_quality(mixed, self.target)
        return replace(
            retrieved,
            quality=quality,
            quality_low=quality,
            quality_high=quality,
            output_tokens=tokens,
        )

    def mix(self, perceived: Matrix, retrieved: Matrix) -> Matrix:
        """Mix outcomes of shape (..., models)."""
        if perceived.shape[-1] == 0:
            return perceived
        change = retrieved - perceived
        level = change.mean(axis=-1, keepdims=True)
        return np.asarray(perceived + self.level * level + self.difference * (change - level))


def to_outcome(quality: Matrix, target: Target) -> Matrix:
    """Undo ``to_quality``: nats for losses; a score's quality is its own outcome."""
    return np.asarray(-np.log(np.maximum(quality, 1e-9)) if target == "loss" else quality)


def widen(estimates: Estimates, others: Sequence[Vector]) -> Estimates:
    """Stretch the intervals so that they hold what every router says, each (models,)."""
    return replace(
        estimates,
        quality_low=np.minimum.reduce([estimates.quality_low, *others]),
        quality_high=np.maximum.reduce([estimates.quality_high, *others]),
    )


def _shared(
    first: tuple[str, ...], second: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where both know a model: its place in each; and the places that only the second knows."""
    if first == second:
        every = np.arange(len(first))
        return every, every, np.arange(0)
    position = {model: i for i, model in enumerate(first)}
    theirs = np.array([i for i, model in enumerate(second) if model in position], np.int64)
    own = np.array([position[second[i]] for i in theirs], np.int64)
    return own, theirs, np.setdiff1d(np.arange(len(second)), theirs)
