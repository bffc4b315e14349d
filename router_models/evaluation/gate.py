"""The choice that a robustness check watches: whether a prompt goes up to the strong model.

Where the best predicted quality alone decides, one strong model may take everything, and nothing
can flip. So there is a second gate, where half of the prompts go up: it stands in the thick of the
prompts, where the least push flips the most, and is the hardest to defend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Gate:
    """Sends a prompt to ``column`` when its lead over the best other model exceeds ``threshold``."""

    column: int
    threshold: float

    def margins(self, quality: Matrix) -> NDArray[np.float64]:
        """Lead of the gate's model, (prompts,), for predicted quality (prompts, models)."""
        others = np.delete(quality, self.column, axis=1)
        return np.asarray(quality[:, self.column] - others.max(axis=1))

    def escalates(self, quality: Matrix) -> NDArray[np.bool_]:
        return np.asarray(self.margins(quality) > self.threshold)


def best_quality_gate(strong: int) -> Gate:
    """Set the gate where the strong model is predicted to be the best."""
    return Gate(strong, 0.0)


def half_way_gate(quality: Matrix, strong: int) -> Gate:
    """Set the gate so that half of the given prompts, (prompts, models), go to the strong model."""
    margins = Gate(strong, 0.0).margins(quality)
    return Gate(strong, float(np.quantile(margins, 1.0 - SHARE)))
