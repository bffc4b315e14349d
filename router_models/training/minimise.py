"""Minimise a smooth function of many variables: L-BFGS.

Method: Nocedal & Wright, *Numerical Optimization*: algorithms 7.4 (two loops), 3.1 (backtracking).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Flat = NDArray[np.float32]

_ITERATIONS = 30
_MEMORY = 8
_GRADIENT_TOLERANCE = 1e-5
_SMALLEST_RATE = 1e-8


def minimise(
    objective: Callable[[Flat], tuple[float, Flat]], start: Flat, iterations: int = _ITERATIONS
) -> Flat:
    """Walk downhill from ``start``; ``objective`` returns its value and slope.

    Stops after ``iterations`` steps: what is fitted here is regularised and gains nothing from more
    digits.
    """
    point, (value, slope) = start, objective(start)
    steps: list[Flat] = []
    bends: list[Flat] = []
    for _ in range(iterations):
        if float(np.abs(slope).max()) < _GRADIENT_TOLERANCE:
            break
        direction = -_two_loop(slope, steps, bends)
        descent = float(direction @ slope)
        rate = 1.0 if steps else 1.0 / max(float(np.abs(slope).sum()), 1e-12)
        while True:
            candidate = point + np.float32(rate) * direction
            new_value, new_slope = objective(candidate)
            if new_value <= value + 1e-4 * rate * descent or rate < _SMALLEST_RATE:
                break
            rate *= 0.5
        if new_value >= value:
            break
        if float((candidate - point) @ (new_slope - slope)) > 1e-12:
            steps, bends = [*steps, candidate - point], [*bends, new_slope - slope]
            steps, bends = steps[-_MEMORY:], bends[-_MEMORY:]
        point, value, slope = candidate, new_value, new_slope
    return point


def _two_loop(slope: Flat, steps: list[Flat], bends: list[Flat]) -> Flat:
    direction = slope.copy()
    weights = []
    for step, bend in zip(reversed(steps), reversed(bends), strict=True):
        weight = float(step @ direction) / float(step @ bend)
        weights.append(weight)
        direction -= np.float32(weight) * bend
    if steps:
        direction *= np.float32(float(steps[-1] @ bends[-1]) / float(bends[-1] @ bends[-1]))
    for step, bend, weight in zip(steps, bends, reversed(weights), strict=True):
        direction += np.float32(weight - float(bend @ direction) / float(step @ bend)) * step
    return direction
