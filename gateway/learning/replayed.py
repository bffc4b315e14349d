"""Logged requests decided again as another router would have them decided.

All that a decision was made from stands in the log, so that a router in shadow needs no place in the
gateway: what it would have chosen is worked out later, from the same flags, limits, prices and loads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.decision.scoring import LoadedRouters, Predictions, by_model, load_routers
from gateway.learning.outcomes import Outcome
from gateway.ledger.decision_records import situation_of
from gateway.settings import Config
from policies.select import select
from policies.types import Candidate, Infeasible, Situation
from router_models.suite import DEFAULT_KIND

_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """Who would be asked, what is expected of every model, and what the weights charge for it."""

    model: str
    expected: dict[str, float]
    charged: float


#: What a router would choose for a logged request; None where it finds nobody feasible.
Chooser = Callable[[Outcome], Choice | None]


def routers_at(config: Config, artifact: Path) -> LoadedRouters:
    """Load the artifact at a folder as the gateway would. Raises ConfigError."""
    router = config.router.model_copy(update={"artifact": str(artifact)})
    return load_routers(config.model_copy(update={"router": router, "learning": None}))


def as_logged(outcome: Outcome) -> Choice | None:
    """The choice by the predictions that stand in the log."""
    return _choose(outcome, situation_of(outcome.record))


def chooser_of(config: Config, routers: LoadedRouters) -> Chooser:
    """The choice by these routers' predictions."""
    if not routers.by_kind:
        return as_logged

    def choose(outcome: Outcome) -> Choice | None:
        return _choose(outcome, situation_under(outcome, routers, config))

    return choose


def situation_under(outcome: Outcome, routers: LoadedRouters, config: Config) -> Situation:
    """A logged situation with these routers' predictions in place of those of the time."""
    record = outcome.record
    kind = record.flags.router if record.flags.router in routers.by_kind else DEFAULT_KIND
    predictions = by_model(routers.by_kind[kind].score(outcome.prompt), kind)
    situation = situation_of(record)
    stay_with = None if situation.is_fallback else situation.stay_with
    # A conversation goes on with its model whatever the router thinks of the prompt.
    is_far = stay_with is None and predictions.is_far and not record.flags.is_pinned
    if is_far:
        stay_with = config.router.fallback
    candidates = tuple(
        _predicted_anew(candidate, predictions, config, record.max_output_tokens)
        for candidate in situation.candidates
    )
    return replace(situation, candidates=candidates, stay_with=stay_with, is_fallback=is_far)


def _predicted_anew(
    candidate: Candidate, predictions: Predictions, config: Config, limit: int | None
) -> Candidate:
    model = config.models.get(candidate.model)
    found = predictions.of(candidate.model, None if model is None else model.quality_prior)
    tokens = found.output_tokens if limit is None else min(found.output_tokens, float(limit))
    more = tokens - candidate.output_tokens
    cost_usd, latency_ms = candidate.cost_usd, candidate.latency_ms
    if cost_usd is not None and candidate.output_usd_per_mtok is not None:
        cost_usd += more * candidate.output_usd_per_mtok / _MTOK
    if latency_ms is not None and candidate.ttft_ms is not None and candidate.output_tokens > 0:
        latency_ms += more * (latency_ms - candidate.ttft_ms) / candidate.output_tokens
    return replace(
        candidate,
        quality=found.quality,
        quality_low=found.quality_low,
        quality_high=found.quality_high,
        output_tokens=tokens,
        cost_usd=cost_usd,
        latency_ms=latency_ms,
    )


def _choose(outcome: Outcome, situation: Situation) -> Choice | None:
    """Choose without exploring: what a router knows shows in its best choice alone."""
    try:
        decision = select(situation, replace(outcome.record.policy, exploration=None)).decision
    except Infeasible:
        return None
    chosen = next(e for e in decision.evaluated if e.candidate.model == decision.chosen)
    charged = 0.0
    if chosen.objective_value is not None:
        charged = chosen.objective_value - (1.0 - chosen.candidate.quality)
    expected = {candidate.model: candidate.quality for candidate in situation.candidates}
    return Choice(decision.chosen, expected, charged)
