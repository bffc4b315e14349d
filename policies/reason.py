"""Why a decision fell as it did, in one short line for a header or a log. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from policies.infeasible import Verdict, excess
from policies.objective import Weighed
from policies.types import Candidate, Guarantee

ONLY_ONE = "only feasible candidate"


def explain_choice(pool: Sequence[Candidate], weighed: Weighed, order: Sequence[int]) -> str:
    """Say what set the winner apart from the runner-up of a feasible pool.

    The goal named is the one whose term favours the winner most.
    """
    if len(order) == 1:
        return ONLY_ONE
    winner, next_best = order[0], order[1]
    chosen, other = pool[winner], pool[next_best]
    if weighed.values[winner] == weighed.values[next_best]:
        is_cheaper = chosen.cost_usd != other.cost_usd
        return f"tied with {other.model}, " + ("lower cost" if is_cheaper else "first by name")
    if not weighed.terms:
        return (
            f"highest predicted quality {chosen.quality:.3g}, "
            f"next {other.model} {other.quality:.3g}"
        )
    advantages = {goal: term[next_best] - term[winner] for goal, term in weighed.terms.items()}
    advantages["quality"] = chosen.quality - other.quality
    goal = max(advantages, key=advantages.__getitem__)
    return f"{goal} decided: {_shown(goal, chosen)}, next {other.model} with {_shown(goal, other)}"


def explain_promise(guarantee: Guarantee) -> str:
    """Say what was promised of the winner."""
    return (
        f"first in order with predicted quality {guarantee.threshold:.3g} or more: "
        f"risk {guarantee.risk:g} at confidence {guarantee.confidence:g}"
    )


def explain_effort(verdict: Verdict) -> str:
    """Say which limits the winner breaks when nobody honours them all."""
    broken = ", ".join(
        f"{v.constraint} unknown" if v.actual is None else f"{v.constraint} off by {excess(v):.0%}"
        for v in verdict
    )
    return f"best effort: {broken}"


def _shown(goal: str, candidate: Candidate) -> str:
    shown = {
        "quality": (candidate.quality, ""),
        "cost": (candidate.cost_usd, " USD"),
        "latency": (candidate.latency_ms, " ms"),
        "size": (candidate.parameters_b, "B parameters"),
        "security": (candidate.security_level, " security level"),
        "verbosity": (candidate.output_tokens, " tokens"),
        "readability": (candidate.readability, ""),
    }
    if goal == "recency":
        day = candidate.released_day
        return "unknown" if day is None else f"{date(1970, 1, 1) + timedelta(days=day)}"
    value, unit = shown[goal]
    return "unknown" if value is None else f"{value:.3g}{unit}"
