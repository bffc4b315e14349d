"""Exploration: how likely each feasible model is to be chosen, and the draw that chooses it.

The chances are computed first and the draw picks from them, so the propensity that is logged is the
exact chance of the choice, whatever approximation the chances themselves contain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import erfc, sqrt
from operator import mul

from policies.types import Decision, Exploration

#: The half-width of a quality interval in standard deviations: intervals hold 90 % of outcomes.
_INTERVAL_DEVIATIONS = 1.645
#: Two models whose quality is known for sure are still told apart by this much.
_LEAST_DEVIATION = 1e-6
#: Points at which the distribution of the best objective is read.
_GRID = 48


def chances(decision: Decision, exploration: Exploration | None) -> dict[str, float]:
    """Chance of each model of ``decision.order`` to be chosen; they sum to 1, in that order.

    A plan that nobody honours in full, or that has one model, is not explored.
    """
    best, *_ = order = decision.order
    if exploration is None or len(order) == 1 or not exploration.share:
        return {best: 1.0}
    values = {
        e.candidate.model: e.objective_value
        for e in decision.evaluated
        if e.objective_value is not None
    }
    if best not in values:
        return {best: 1.0}
    reach = float("inf") if exploration.within is None else exploration.within
    taking_part = [model for model in order if values[model] - values[best] <= reach]
    if exploration.method == "epsilon":
        explored = [1.0 / len(taking_part)] * len(taking_part)
    else:
        deviations = _deviations(decision)
        explored = chances_to_be_least(
            [values[model] for model in taking_part], [deviations[model] for model in taking_part]
        )
    share = exploration.share
    found = {model: share * chance for model, chance in zip(taking_part, explored, strict=True)}
    found[best] += 1.0 - share
    return found


def pick(shares: Mapping[str, float], draw: float) -> str:
    """Choose by a draw in [0, 1): each model owns a stretch as long as its chance."""
    passed = 0.0
    model = ""
    for model, chance in shares.items():
        passed += chance
        if draw < passed:
            return model
    # The chances may sum to a little less than 1; the last model owns the rest.
    return model


def chances_to_be_least(means: Sequence[float], deviations: Sequence[float]) -> list[float]:
    """Chance of each of several independent normal values to be the least one (Thompson, 1933).

    Between two neighbouring points of a grid, a value is the least when it falls there and no other
    one falls below the middle. The chances sum to 1.
    """
    low = min(m - 4 * s for m, s in zip(means, deviations, strict=True))
    high = min(m + 4 * s for m, s in zip(means, deviations, strict=True))
    step = (high - low) / _GRID
    totals = [0.0] * len(means)
    scales = [s * sqrt(2) for s in deviations]
    above = [1.0] * len(means)
    for point in range(_GRID):
        middle = low + (point + 0.5) * step
        end = middle + 0.5 * step
        beyond = [0.5 * erfc((end - m) / s) for m, s in zip(means, scales, strict=True)]
        halfway = [0.5 * (a + b) for a, b in zip(above, beyond, strict=True)]
        others = _products_of_the_others(halfway)
        for index, product in enumerate(others):
            totals[index] += (above[index] - beyond[index]) * product
        above = beyond
    whole = sum(totals)
    return [total / whole for total in totals]


def _products_of_the_others(factors: Sequence[float]) -> list[float]:
    before = accumulate(factors[:-1], mul, initial=1.0)
    after = [*accumulate(reversed(factors[1:]), mul, initial=1.0)]
    return [left * right for left, right in zip(before, reversed(after), strict=True)]


def _deviations(decision: Decision) -> dict[str, float]:
    return {
        e.candidate.model: max(
            (e.candidate.quality_high - e.candidate.quality_low) / 2 / _INTERVAL_DEVIATIONS,
            _LEAST_DEVIATION,
        )
        for e in decision.evaluated
    }
