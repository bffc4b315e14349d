"""A policy at work: fill what the request leaves open, choose, stay with a conversation, explore."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from policies.choose import choose
from policies.constraints import BOUNDED, is_beyond
from policies.explore import chances, pick
from policies.types import Decision, Policy, RoutingFlags, Situation

DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Selection:
    """A decision, the flags in force, and the chance that this policy gives each model."""

    decision: Decision
    flags: RoutingFlags
    chances: dict[str, float]


def select(situation: Situation, policy: Policy = DEFAULT_POLICY) -> Selection:
    """Decide; the same situation and policy give the same selection, bit for bit.

    A model that a conversation stays with or that the caller named is never explored away, and a
    guarantee holds for its own order alone, which is then kept.
    Raises Infeasible like ``choose``.
    """
    flags = fill(situation.flags, policy)
    decision = choose(situation.candidates, flags, situation.needs)
    if flags.is_pinned or flags.guarantee is not None:
        return Selection(decision, flags, {decision.chosen: 1.0})
    if situation.stay_with is not None and situation.stay_with in decision.order:
        kept = _put_first(decision, situation.stay_with, "stays with the model of the conversation")
        return Selection(kept, flags, {kept.chosen: 1.0})
    if policy.exploration is None:
        return Selection(decision, flags, {decision.chosen: 1.0})
    found = chances(decision, policy.exploration)
    picked = pick(found, situation.draw)
    if picked != decision.chosen:
        reason = f"explored in place of {decision.chosen}"
        decision = _put_first(decision, picked, reason)
    return Selection(decision, flags, found)


def fill(flags: RoutingFlags, policy: Policy) -> RoutingFlags:
    """Lay the flags of a request over a policy.

    A request that names its model says how to choose; then a policy adds nothing.
    """
    if policy is DEFAULT_POLICY or flags.is_pinned:
        return flags
    if policy.weights is not None and not flags.asks_objective:
        objective = policy.objective or flags.objective
        flags = replace(flags, objective=objective, weights=policy.weights)
    limits: dict[str, Any] = {}
    for name in BOUNDED:
        limit = _open_limit(name, flags, policy)
        if limit is not None:
            limits[name] = limit
    return replace(flags, **limits) if limits else flags


def _open_limit(name: str, flags: RoutingFlags, policy: Policy) -> float | None:
    """The policy's limit where the request sets none; a clamp of the key counts as none."""
    limit: float | None = getattr(policy, name)
    asked: float | None = getattr(flags, name)
    if limit is None or asked is None:
        return limit
    is_clamp_alone = asked == flags.clamps.get(name)
    return limit if is_clamp_alone and is_beyond(name, asked, limit) else None


def _put_first(decision: Decision, model: str, reason: str) -> Decision:
    if decision.chosen == model:
        return decision
    rest = tuple(name for name in decision.order if name != model)
    return replace(decision, order=(model, *rest), reason=reason)
