"""A decision as ``POST /v1/route`` tells it."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.decision.catalog import Catalog
from gateway.decision.scoring import Scorer
from gateway.pipeline import Plan
from policies.objective import goal_costs
from policies.types import Evaluated
from router_models.retriever.model import Neighbour

#: Characters shown of a pilot's most typical prompt.
_EXAMPLE_CHARS = 300


def decision_document(plan: Plan, catalog: Catalog, scorer: Scorer) -> bytes:
    """The whole decision as JSON: every candidate, what it violates, the choice and the reason.

    With ``explain: full`` also the pilots nearest to the prompt, with every model's outcome there.
    """
    decision = plan.decision
    features = plan.features
    document = {
        "decision_id": decision.decision_id,
        "policy_version": decision.policy_version,
        "features": {
            "ask_characters": len(features.ask),
            "prompt_tokens": features.prompt_tokens,
            "max_output_tokens": features.max_output_tokens,
            "capabilities": sorted(features.needs.capabilities),
            "nearness": plan.nearness,
        },
        "candidates": [_candidate(e, catalog) for e in decision.plan.evaluated],
        "chosen": decision.plan.chosen,
        "order": list(decision.plan.order),
        "relaxed": list(decision.plan.relaxed),
        "first_try": decision.plan.first_try,
        "effective_routing": decision.effective_routing,
        "explanation": decision.reason,
        "warnings": list(decision.warnings),
        "overhead_ms": round(plan.overhead_s * 1e3, 3),
    }
    if decision.parsed.flags.explain == "full":
        document["nearest_pilots"] = [_pilot(n) for n in scorer.neighbours(features.ask)]
    return msgspec.json.encode(document)


def _pilot(neighbour: Neighbour) -> dict[str, Any]:
    return {
        "pilot": neighbour.pilot,
        "task": neighbour.name,
        "similarity": round(neighbour.similarity, 4),
        "prompts": neighbour.size,
        "example": neighbour.example[:_EXAMPLE_CHARS],
        "outcome": neighbour.unit,
        "models": [
            {"model": model, "mean": mean, "error": error, "prompts": prompts}
            for model, (mean, error, prompts) in neighbour.outcomes.items()
        ],
    }


def _candidate(evaluated: Evaluated, catalog: Catalog) -> dict[str, Any]:
    candidate = evaluated.candidate
    return {
        "model": candidate.model,
        "backend": catalog.models[candidate.model].backends[0].name,
        "predicted_quality": candidate.quality,
        "quality_interval": [candidate.quality_low, candidate.quality_high],
        "predicted_cost_usd": candidate.cost_usd,
        "predicted_output_tokens": candidate.output_tokens,
        "predicted_ttft_ms": candidate.ttft_ms,
        "predicted_latency_ms": candidate.latency_ms,
        "feasible": evaluated.is_feasible,
        "violated": [v.constraint for v in evaluated.violated],
        "violations": [
            {"constraint": v.constraint, "limit": v.limit, "actual": v.actual}
            for v in evaluated.violated
        ],
        "on_pareto_front": evaluated.is_on_pareto_front,
        "objective_value": evaluated.objective_value,
        "goal_costs": goal_costs(candidate),
    }
