"""What the usual alternatives to routing would have cost, and how good they would have been.

Predictions are compared with predictions, for the same prompt and the models that could have
answered it, so that the comparison does not depend on how long the one real answer turned out.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.types import Candidate, Evaluated

#: By how much a baseline is dearer, in USD (None where a price is unknown), and better.
Difference = tuple[float | None, float]


def compare(evaluated: Sequence[Evaluated], served: str) -> tuple[Difference, ...] | None:
    """Differences of ``telemetry.metrics.BASELINES`` to the model that served.

    The baselines choose among the candidates that were feasible, or could answer at all where a
    limit had to be given up: the one of highest predicted quality, the one of lowest predicted
    cost, and the mean of all. None where there was no choice.
    """
    pool = alternatives(evaluated)
    ours = next((c for c in pool if c.model == served), None)
    if ours is None or len(pool) < 2:
        return None
    best = max(pool, key=lambda c: (c.quality, c.model))
    return _difference(best, ours), _to_cheapest(pool, ours), _to_mean(pool, ours)


def alternatives(evaluated: Sequence[Evaluated]) -> list[Candidate]:
    """Who could have answered: the feasible, or the usable where a limit had to be given up."""
    pool = [e.candidate for e in evaluated if e.is_feasible]
    return pool if len(pool) > 1 else [e.candidate for e in evaluated if e.candidate.is_usable]


def _difference(other: Candidate, ours: Candidate) -> Difference:
    usd = None
    if other.cost_usd is not None and ours.cost_usd is not None:
        usd = other.cost_usd - ours.cost_usd
    return usd, other.quality - ours.quality


def _to_cheapest(pool: Sequence[Candidate], ours: Candidate) -> Difference:
    priced = [c for c in pool if c.cost_usd is not None]
    if not priced:
        return None, 0.0
    return _difference(min(priced, key=lambda c: (c.cost_usd or 0.0, c.model)), ours)


def _to_mean(pool: Sequence[Candidate], ours: Candidate) -> Difference:
    quality = sum(c.quality for c in pool) / len(pool) - ours.quality
    costs = [c.cost_usd for c in pool if c.cost_usd is not None]
    if ours.cost_usd is None or len(costs) < len(pool):
        return None, quality
    return sum(costs) / len(costs) - ours.cost_usd, quality
