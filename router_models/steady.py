"""Read a prompt several times, each time without more of its start, and believe the median.

A router that adds up evidence over words can be turned by a few words put before any prompt
(Shafran et al., *Rerouting LLM Routers*, arXiv 2501.01818). Whatever such a prefix says, it is
absent from the readings that leave it out, and the median follows most of them. It defends against
prefixes of up to three tenths of the text, not against longer ones or what stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from router_models.types import Estimates, Vector

Matrix = NDArray[np.float64]

#: Shares of a text's words that the readings leave out at its start.
SKIPPED = (0.0, 0.2, 0.3, 0.4, 0.5)
#: What a router trained to be steady does of itself: two more readings, for less than double the time.
THRICE = (0.0, 0.3, 0.45)
#: A router that reads a prompt once, as it is.
ONCE = (0.0,)
#: A reading of fewer words says too little to have a say.
MIN_WORDS = 8

_LEAST = 1e-6


def starts_of(text: str, skipped: Sequence[float]) -> tuple[int, ...]:
    """Return where the readings of a text start: at 0, and behind more and more of its first words.

    ``skipped`` are the shares of the words that they leave out, ascending, the first of them 0. A
    text of fewer than ten words is read once.
    """
    if len(skipped) == 1:
        return (0,)
    count = len(text.split())
    firsts = dict.fromkeys(int(count * share) for share in skipped[1:])
    kept = [first for first in firsts if count - first >= MIN_WORDS]
    return (0, *(len(text) - len(text.split(None, first)[first]) for first in kept if first))


def median_of(whole: Estimates, tails: Matrix) -> Estimates:
    """Predict from the median of the whole text's reading and the others' quality, (tails, models).

    Intervals keep the whole reading's width, and length is predicted from it: a prefix is part of
    what is to be answered.
    """
    logs = np.log(np.maximum(np.concatenate([whole.quality[None], tails]), _LEAST))
    # Leads and level apart: texts of which little is known are less sure of every model.
    levels = logs.mean(axis=1, keepdims=True)
    quality = np.exp(np.minimum(_median(logs - levels) + _median(levels), 0.0))
    return replace(
        whole,
        quality=quality,
        quality_low=_moved(whole.quality_low, whole.quality, quality),
        quality_high=_moved(whole.quality_high, whole.quality, quality),
    )


def _median(rows: Matrix) -> Matrix:
    """Return the median of every column: ``numpy.median`` without its tenfold cost on a few rows."""
    ordered = np.sort(rows, axis=0)
    return np.asarray((ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2.0)


def _moved(end: Vector, before: Vector, after: Vector) -> Vector:
    return np.asarray(np.clip(end + (after - before), 0.0, 1.0))
