"""Read a prompt several times, each time without more of its start, and believe the median.

A router that adds up evidence over words can be turned by a few words put before any prompt
(Shafran et al., *Rerouting LLM Routers*, arXiv 2501.01818). Whatever such a prefix says, it is
absent from the readings that leave it out, and the median follows most of them. It defends against
prefixes of up to three tenths of the text, not against longer ones or what stands elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from router_models.types import Estimates, Vector

#: Shares of a text's words that the readings leave out at its start.
SKIPPED = (0.0, 0.2, 0.3, 0.4, 0.5)
#: What a router trained to be steady does of itself: two more readings, for over double the time.
THRICE = (0.0, 0.3, 0.45)
#: A router that reads a prompt once, as it is.
ONCE = (0.0,)
#: A reading of fewer words says too little to have a say.
MIN_WORDS = 8

_WORD = re.compile(r"\S+")
_LEAST = 1e-6


def starts_of(text: str, skipped: Sequence[float]) -> tuple[int, ...]:
    """Return where the readings of a text start: at 0, and behind more and more of its first words.

    ``skipped`` are the shares of the words that they leave out, ascending, the first of them 0. A
    text of fewer than ten words is read once.
    """
    if len(skipped) == 1:
        return (0,)
    words = [match.start() for match in _WORD.finditer(text)]
    firsts = {int(len(words) * share): None for share in skipped[1:]}
    return (0, *(words[first] for first in firsts if len(words) - first >= MIN_WORDS))


def median_of(readings: Sequence[Estimates]) -> Estimates:
    """Predict from the median reading; intervals keep the whole reading's width and the median.

    ``readings[0]`` is that of the whole text, from which length is predicted: a prefix is part of
    what is to be answered.
    """
    whole = readings[0]
    if len(readings) == 1 or whole.is_far:
        return whole
    logs = np.log(np.maximum([reading.quality for reading in readings], _LEAST))
    # Leads and level apart: texts of which little is known are less sure of every model.
    levels = logs.mean(axis=1, keepdims=True)
    quality = np.exp(np.minimum(np.median(logs - levels, axis=0) + np.median(levels), 0.0))
    return replace(
        whole,
        quality=quality,
        quality_low=_moved(whole.quality_low, whole.quality, quality),
        quality_high=_moved(whole.quality_high, whole.quality, quality),
    )


def _moved(end: Vector, before: Vector, after: Vector) -> Vector:
    return np.asarray(np.clip(end + (after - before), 0.0, 1.0))
