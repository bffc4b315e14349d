"""What the usual alternatives to routing would have cost, and how good they would have been.

Predictions are compared with predictions, for the same prompt and the models that could have
answered it, so that the comparison does not depend on how long the one real answer turned out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from policies.types import Candidate, Evaluated

#: By how much a baseline is dearer, in USD (None where a price is unknown), and better.
Difference = tuple[float | None, float]


class Comparison(NamedTuple):
    """The model that served, who could have, and the differences of ``BASELINES`` to it."""

    served: Candidate
    pool: list[Candidate]
    differences: tuple[Difference, ...]


def compare(evaluated: Sequence[Evaluated], served: str) -> Comparison | None:
    """Compare the model that served with the baselines of ``telemetry.comparisons``.

    The baselines choose among the candidates that were feasible, or could answer at all where a
    limit had to be given up: the one of highest predicted quality, the one of lowest predicted
    cost, and the mean of all. None where there was no choice.
    """
    pool = alternatives(evaluated)
    if len(pool) < 2:
        return None
    ours: Candidate | None = None
    cheapest: Candidate | None = None
    best, least_usd = pool[0], inf
    quality = cost_usd = 0.0
    is_priced = True
    for candidate in pool:  # in one pass, since every request pays for it
        usd = candidate.cost_usd
        if candidate.model == served:
            ours = candidate
        quality += candidate.quality
        if candidate.quality > best.quality or (
            candidate.quality == best.quality and candidate.model > best.model
        ):
            best = candidate
        if usd is None:
            is_priced = False
            continue
        cost_usd += usd
        if usd < least_usd or (
            usd == least_usd and cheapest is not None and candidate.model < cheapest.model
        ):
            cheapest, least_usd = candidate, usd
    if ours is None:
        return None
    mean_usd = None
    if is_priced and ours.cost_usd is not None:
        mean_usd = cost_usd / len(pool) - ours.cost_usd
    differences = (
        _difference(best, ours),
        (None, 0.0) if cheapest is None else _difference(cheapest, ours),
        (mean_usd, quality / len(pool) - ours.quality),
    )
    return Comparison(ours, pool, differences)


def alternatives(evaluated: Sequence[Evaluated]) -> list[Candidate]:
    """Who could have answered: the feasible, or the usable where a limit had to be given up."""
    pool = [e.candidate for e in evaluated if e.is_feasible]
    return pool if len(pool) > 1 else [e.candidate for e in evaluated if e.candidate.is_usable]


def _difference(other: Candidate, ours: Candidate) -> Difference:
    usd = None
    if other.cost_usd is not None and ours.cost_usd is not None:
        usd = other.cost_usd - ours.cost_usd
    return usd, other.quality - ours.quality
