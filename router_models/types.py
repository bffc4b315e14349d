"""What a router is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Predictions for one prompt; every array has shape (models,), in the order of ``models``.

    ``quality`` lies in [0, 1], higher is better. ``quality_low`` and ``quality_high`` bound the mean
    score of prompts like this one; see ``router_models.calibration``. ``output_tokens`` counts tokens
    of the expected answer. ``nearness`` tells how much of the prompt lies along the nearest pilot, at
    most 1, None without pilots; ``is_far`` that this is too little to go by, so that the estimates are
    what is expected of any prompt.
    """

    models: tuple[str, ...]
    quality: Vector
    quality_low: Vector
    quality_high: Vector
    output_tokens: Vector
    nearness: float | None = None
    is_far: bool = False


class Router(Protocol):
    """A learned predictor of how every model would answer a prompt; thread-safe, free of I/O."""

    @property
    def models(self) -> tuple[str, ...]: ...

    @property
    def version(self) -> str:
        """Hash of everything the predictions depend on."""

    def score(self, prompt: str) -> Estimates:
        """Predict from the prompt's text alone."""


class ArtifactError(ValueError):
    """A router artifact cannot be trusted or understood; the message names the file and the reason."""


class DataError(ValueError):
    """Data cannot be used; the message names the column or row and the remedy."""
