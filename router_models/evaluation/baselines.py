"""What can be had without learning, and what no router can beat.

Every baseline is a (prompts, models) array whose rows are probabilities of picking a model; models
that were not measured on a prompt are never picked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]


def pick_highest(preference: Matrix, losses: Matrix) -> Matrix:
    """Pick the measured model that is preferred most; the first of equals."""
    # A model of which nothing is known is still preferred to one that was not measured here.
    finite = np.maximum(preference, np.finfo(np.float64).min)
    usable = np.where(np.isnan(losses), -np.inf, finite)
    picks = np.zeros_like(losses)
    picks[np.arange(len(losses)), usable.argmax(axis=1)] = 1.0
    return picks


def random_pick(losses: Matrix) -> Matrix:
    """Every measured model alike: the exact expectation of drawing at random."""
    known = ~np.isnan(losses)
    return np.asarray(known / known.sum(axis=1, keepdims=True))


def round_robin(losses: Matrix) -> Matrix:
    """One measured model after the other, in the order of the prompts."""
    known = ~np.isnan(losses)
    turn = np.arange(len(losses)) % known.sum(axis=1)
    rank = np.cumsum(known, axis=1) - 1
    return np.asarray((known & (rank == turn[:, None])).astype(np.float64))


def best_single(losses: Matrix, mean_losses: Vector) -> Matrix:
    """The model with the lowest mean loss, (models,); where it was not measured, the next one."""
    return pick_highest(np.broadcast_to(-mean_losses, losses.shape), losses)


def task_oracle(losses: Matrix, tasks: Sequence[str]) -> Matrix:
    """The model that is best on average on the very prompts of the task: knows task and outcome."""
    labels = np.array(tasks)
    preference = np.zeros_like(losses)
    for task in np.unique(labels):
        members = labels == task
        preference[members] = -mean_measured(losses[members])
    return pick_highest(preference, losses)


def prompt_oracle(losses: Matrix) -> Matrix:
    """The best model of every prompt: the ceiling."""
    return pick_highest(-losses, losses)


def mean_measured(values: Matrix) -> Vector:
    """Mean of every model over the prompts it was measured on; infinity where there are none."""
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
