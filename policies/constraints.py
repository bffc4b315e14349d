"""The hard filters: which limits a candidate breaks. It never ranks and never gives a limit up.

They apply in this order: ``backend``, ``models.allow``, ``models.deny``, ``capabilities``,
``context_tokens``, ``guarantee``, ``min_quality``, ``max_cost_usd``, ``max_ttft_ms``,
``max_latency_ms``, ``max_input_usd_per_mtok``, ``max_output_usd_per_mtok``.
A window or a set of capabilities that was never declared passes. A bound on a number that is
unknown does not: a bound that cannot be checked is not honoured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from policies.types import Candidate, Guarantee, Needs, RoutingFlags, Violation

_Read = Callable[[Candidate], float | None]

#: Constraints on a number: how to read it, and 1 for a ceiling or -1 for a floor.
_BOUNDED: tuple[tuple[str, _Read, int], ...] = (
    ("min_quality", attrgetter("quality"), -1),
    ("max_cost_usd", attrgetter("cost_usd"), 1),
    ("max_ttft_ms", attrgetter("ttft_ms"), 1),
    ("max_latency_ms", attrgetter("latency_ms"), 1),
    ("max_input_usd_per_mtok", attrgetter("input_usd_per_mtok"), 1),
    ("max_output_usd_per_mtok", attrgetter("output_usd_per_mtok"), 1),
)
_CAUTIOUS: tuple[tuple[str, _Read, int], ...] = (
    ("min_quality", attrgetter("quality_low"), -1),
    *_BOUNDED[1:],
)
_SIGNS = {name: sign for name, _, sign in _BOUNDED}


def find_violations(
    candidates: Sequence[Candidate], flags: RoutingFlags, needs: Needs
) -> list[tuple[Violation, ...]]:
    """Tell for each candidate which constraints it breaks, in the stated order."""
    allow = None if flags.allow is None else frozenset(flags.allow)
    deny = frozenset(flags.deny)
    bounds = [
        (name, read, sign, limit)
        for name, read, sign in (_CAUTIOUS if flags.quality_bound == "low" else _BOUNDED)
        if (limit := getattr(flags, name)) is not None
    ]
    return [
        (
            *_unfit(c, allow, deny, needs),
            *_unpromised(c, flags.guarantee),
            *_out_of_bounds(c, bounds),
        )
        for c in candidates
    ]


def is_beyond(constraint: str, actual: float | None, limit: float) -> bool:
    """Whether ``actual`` breaks a bound of ``limit``; an unknown one does."""
    sign = _SIGNS[constraint]
    return actual is None or not sign * actual <= sign * limit


def _unfit(
    candidate: Candidate, allow: frozenset[str] | None, deny: frozenset[str], needs: Needs
) -> list[Violation]:
    broken = []
    if not candidate.is_usable:
        broken.append(Violation("backend", None, None))
    if allow is not None and candidate.model not in allow:
        broken.append(Violation("models.allow", None, None))
    if candidate.model in deny:
        broken.append(Violation("models.deny", None, None))
    declared = candidate.capabilities
    if declared is not None and not needs.capabilities <= declared:
        broken.append(Violation("capabilities", None, None))
    window = candidate.context_tokens
    if window is not None and needs.context_tokens > window:
        broken.append(Violation("context_tokens", needs.context_tokens, window))
    return broken


def _unpromised(candidate: Candidate, guarantee: Guarantee | None) -> tuple[Violation, ...]:
    """A model that was not calibrated, or no threshold at all, keeps no promise."""
    if guarantee is None:
        return ()
    threshold = guarantee.threshold
    if threshold is None or candidate.model not in guarantee.order:
        return (Violation("guarantee", threshold, None),)
    if not candidate.quality >= threshold:
        return (Violation("guarantee", threshold, candidate.quality),)
    return ()


def _out_of_bounds(
    candidate: Candidate, bounds: Sequence[tuple[str, _Read, int, float]]
) -> list[Violation]:
    broken = []
    for name, read, sign, limit in bounds:
        actual = read(candidate)
        # Written so that a NaN, which compares as false, breaks the bound too.
        if actual is None or not sign * actual <= sign * limit:
            broken.append(Violation(name, limit, actual))
    return broken
