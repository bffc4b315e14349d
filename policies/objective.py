"""Tryage's objective (arXiv 2308.11601): ``loss(m) + Σ λ_i · C_i(m)``, lowest first.

Loss is ``1 - quality``. Each C_i is scaled to [0, 1] over the pool given: the lowest value becomes
0, the highest 1, and all become 0 where they are equal. It never filters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, inf
from operator import add, attrgetter

from policies.types import GOALS, Candidate, RoutingFlags


@dataclass(frozen=True, slots=True)
class Weighed:
    """The objective of each candidate of a pool, and the weighted terms it is the sum of."""

    values: list[float]
    terms: dict[str, list[float]]


def _negated(attribute: str) -> Callable[[Candidate], float | None]:
    read = attrgetter(attribute)

    def negate(candidate: Candidate) -> float | None:
        value = read(candidate)
        return None if value is None else -value

    return negate


#: What each goal keeps low. The age of a model and the day of its release differ by a constant,
#: which scaling removes.
_COSTS: dict[str, Callable[[Candidate], float | None]] = {
    "cost": attrgetter("cost_usd"),
    "latency": attrgetter("latency_ms"),
    "size": attrgetter("parameters_b"),
    "recency": _negated("released_day"),
    "security": _negated("security_level"),
    "verbosity": attrgetter("output_tokens"),
    "readability": _negated("readability"),
}


def weigh(pool: Sequence[Candidate], flags: RoutingFlags) -> Weighed:
    """Compute the objective of every candidate of the pool.

    A value that is unknown counts as the mean of the scaled known ones: it is neither rewarded nor
    punished. With ``willingness_to_pay_usd`` the weight of cost is the one under which the pool's
    range of prices weighs as much quality as it is worth.
    """
    values = [1 - candidate.quality for candidate in pool]
    terms = {}
    # In the order of GOALS, so that the sum is the same float however the weights are ordered.
    for goal in GOALS:
        if not _is_weighed(goal, flags):
            continue
        costs = list(map(_COSTS[goal], pool))
        known = [cost for cost in costs if cost is not None]
        if not known:
            continue
        low, spread = min(known), max(known) - min(known)
        weight = _weight(goal, flags, spread)
        term = [weight * share for share in _scale(costs, low, spread)]
        values = list(map(add, values, term))
        terms[goal] = term
    return Weighed(values, terms)


def goal_costs(candidate: Candidate) -> dict[str, float | None]:
    """Tell what each goal keeps low of a candidate, before it is scaled; None where unknown."""
    return {goal: _COSTS[goal](candidate) for goal in GOALS}


def rank(pool: Sequence[Candidate], values: Sequence[float]) -> list[int]:
    """Order the pool's indices best first; equal values go by lower cost, then by model name.

    A cost that is unknown comes after every known one.
    """
    keys = [
        (value, inf if c.cost_usd is None else c.cost_usd, c.model)
        for c, value in zip(pool, values, strict=True)
    ]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _is_weighed(goal: str, flags: RoutingFlags) -> bool:
    if goal == "cost" and flags.willingness_to_pay_usd is not None:
        return True
    return bool(flags.weights.get(goal))


def _weight(goal: str, flags: RoutingFlags, spread: float) -> float:
    if goal == "cost" and flags.willingness_to_pay_usd is not None:
        return 0.1 * spread / flags.willingness_to_pay_usd
    return flags.weights[goal]


def _scale(costs: Sequence[float | None], low: float, spread: float) -> list[float]:
    if not spread:
        return [0.0] * len(costs)
    if None not in costs:
        return [(cost - low) / spread for cost in costs if cost is not None]
    scaled = [None if cost is None else (cost - low) / spread for cost in costs]
    known = [share for share in scaled if share is not None]
    # fsum rounds once, so the mean does not depend on the order of the candidates.
    mean = fsum(known) / len(known)
    return [mean if share is None else share for share in scaled]
