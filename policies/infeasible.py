"""What to do when no candidate honours every constraint: say what binds, or give up what may be.

Only the limits in ``RELAX_ORDER`` may be given up, and never past a clamp of the key's policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.constraints import is_beyond
from policies.types import Candidate, Infeasible, Violation

Verdict = tuple[Violation, ...]

#: The limits that ``relax`` gives up, the one that is missed least first: a wait, then money, and
#: last the worth of the answer and what was promised of it.
RELAX_ORDER = (
    "max_latency_ms",
    "max_ttft_ms",
    "max_output_usd_per_mtok",
    "max_input_usd_per_mtok",
    "max_cost_usd",
    "min_quality",
    "guarantee",
)
_BITS = {name: 1 << place for place, name in enumerate(RELAX_ORDER)}

#: How far off a constraint counts that is not a bound on a prediction. A backend may come back by
#: itself, a prompt may be cut, and a list of models is the caller's clearest word.
_FIRM_EXCESS = {
    "backend": 10.0,
    "context_tokens": 20.0,
    "capabilities": 30.0,
    "models.allow": 40.0,
    "models.deny": 50.0,
}
#: A known excess is at most 1, so that what is known to be near comes before what may be near.
_UNKNOWN_EXCESS = 2.0


def excess(violation: Violation) -> float:
    """How far a value lies beyond its limit, as a share of the larger of the two, in (0, 1].

    An unknown value counts 2; what is no bound on a prediction counts more than any that is.
    """
    return _FIRM_EXCESS.get(violation.constraint, 0.0) + _relative(violation)


def _relative(violation: Violation) -> float:
    if violation.limit is None or violation.actual is None:
        return _UNKNOWN_EXCESS
    largest = max(abs(violation.limit), abs(violation.actual))
    return abs(violation.actual - violation.limit) / largest


def firm_part(verdict: Verdict, clamps: Mapping[str, float]) -> Verdict:
    """Keep the violations that nothing may excuse."""
    return tuple(v for v in verdict if _is_firm(v, clamps))


def _is_firm(violation: Violation, clamps: Mapping[str, float]) -> bool:
    if violation.constraint not in _BITS:
        return True
    clamp = clamps.get(violation.constraint)
    return clamp is not None and is_beyond(violation.constraint, violation.actual, clamp)


def relax(
    verdicts: Sequence[Verdict], clamps: Mapping[str, float]
) -> tuple[tuple[str, ...], list[Verdict]]:
    """Choose the limits to give up so that somebody is feasible, and tell what is broken then.

    A limit is given up only if no set of limits before it in ``RELAX_ORDER`` would do, and one that
    does not stand in the way is kept. Where nothing helps, none is named and the verdicts are what
    nothing may excuse.
    """
    firm = [firm_part(verdict, clamps) for verdict in verdicts]
    missed = [
        sum(_BITS[violation.constraint] for violation in verdict)
        for verdict, kept in zip(verdicts, firm, strict=True)
        if not kept
    ]
    if not missed:
        return (), firm
    least = min(missed)
    relaxed = tuple(name for name in RELAX_ORDER if least & _BITS[name])
    return relaxed, [
        tuple(v for v in verdict if v.constraint not in relaxed or v in kept)
        for verdict, kept in zip(verdicts, firm, strict=True)
    ]


def infeasible(candidates: Sequence[Candidate], verdicts: Sequence[Verdict]) -> Infeasible:
    """Build the error that names the binding constraint and the nearest feasible value.

    The nearest candidate breaks the fewest constraints, then misses them by the least in all (see
    ``excess``), then goes by name. Of what it breaks, the one missed by the least binds. So where
    some candidate breaks a single constraint, the binding one alone stands in its way.
    """
    if not candidates:
        return Infeasible("backend", None, "there is no model to choose from")
    nearest, verdict = min(
        zip(candidates, verdicts, strict=True),
        key=lambda pair: (len(pair[1]), sum(excess(v) for v in pair[1]), pair[0].model),
    )
    broken = sorted(verdict, key=excess)
    wishes = " and ".join(_wish(v) for v in broken)
    found = ", ".join(f"{v.constraint} {v.actual}" for v in broken if v.actual is not None)
    message = f"no model satisfies {wishes}; the nearest is {nearest.model}"
    return Infeasible(
        binding=broken[0].constraint,
        nearest=broken[0].actual,
        message=f"{message} with {found}" if found else message,
    )


def _wish(violation: Violation) -> str:
    if violation.limit is None:
        return violation.constraint
    return f"{violation.constraint} {violation.limit}"
