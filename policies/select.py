"""A policy at work: fill what the request leaves open, choose, stay with a conversation, explore."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from policies.cascade import with_first_try
from policies.choose import choose
from policies.constraints import is_beyond
from policies.explore import chances, pick
from policies.types import Decision, Policy, RoutingFlags, Situation

DEFAULT_POLICY = Policy()

#: Why a model is put first, and why it is then asked at once under a cascade.
CONVERSATION = (
    "stays with the model of the conversation",
    "the conversation stays with its model",
)
FALLBACK = ("falls back, unlike the prompts trained on", "the prompt goes to the fallback")

#: The limits that a policy may set.
_LIMITS = ("min_quality", "max_cost_usd", "max_ttft_ms", "max_latency_ms")


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
    if flags.is_pinned:
        decision = _alone(decision, flags, "the request names its model")
        return Selection(decision, flags, {decision.chosen: 1.0})
    if flags.guarantee is not None:
        decision = _alone(decision, flags, "a guarantee holds for its own order")
        return Selection(decision, flags, {decision.chosen: 1.0})
    if situation.stay_with is not None and situation.stay_with in decision.order:
        reason, why_alone = FALLBACK if situation.is_fallback else CONVERSATION
        kept = _alone(_put_first(decision, situation.stay_with, reason), flags, why_alone)
        return Selection(kept, flags, {kept.chosen: 1.0})
    if policy.exploration is None:
        return Selection(_cascaded(decision, flags), flags, {decision.chosen: 1.0})
    found = chances(decision, policy.exploration)
    picked = pick(found, situation.draw)
    if picked != decision.chosen:
        reason = f"explored in place of {decision.chosen}"
        decision = _put_first(decision, picked, reason)
    return Selection(_cascaded(decision, flags), flags, found)


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
    for name in _LIMITS:
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


def _cascaded(decision: Decision, flags: RoutingFlags) -> Decision:
    cascade = flags.cascade
    return decision if cascade is None else with_first_try(decision, flags, cascade)


def _alone(decision: Decision, flags: RoutingFlags, why: str) -> Decision:
    """Under a cascade, say why the chosen model is asked at once."""
    return decision if flags.cascade is None else replace(decision, no_first_try=why)


def _put_first(decision: Decision, model: str, reason: str) -> Decision:
    if decision.chosen == model:
        return decision
    rest = tuple(name for name in decision.order if name != model)
    return replace(decision, order=(model, *rest), reason=reason)
