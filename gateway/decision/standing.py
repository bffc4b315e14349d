"""Decisions that stand: for a model that a request names, with nothing said of routing."""

from __future__ import annotations

import msgspec

from gateway.decision.catalog import Catalog, CatalogModel
from gateway.decision.decide import Decider, RoutedDecision
from gateway.decision.endpoints import CHAT
from gateway.decision.features import PromptFeatures
from gateway.decision.flags import ModelRequest, parse_flags
from gateway.decision.scoring import Scorer
from gateway.errors import GatewayError
from gateway.upstream.lean import LeanClient
from policies.types import Needs


class Standing(msgspec.Struct, frozen=True):
    """How every such request for ``model`` is decided; only tokens and prices differ."""

    model: CatalogModel
    decision: RoutedDecision
    #: Output tokens expected of the model where the request sets no lower limit.
    output_tokens: float


def decide_standing(
    catalog: Catalog, decider: Decider, scorer: Scorer, name: str
) -> Standing | None:
    """Decide once for a model; None where each request for it is decided on its own, or refused."""
    model = catalog.models.get(name)
    if model is None or not is_simple(model):
        return None
    request = ModelRequest(pinned=name)
    prior = scorer.prior
    features = PromptFeatures("", 1, None, Needs())
    try:
        decision = decider.decide(CHAT, request, parse_flags(request, {}, {}), features, prior)
    except GatewayError:  # nobody can be asked just now
        return None
    return Standing(model, decision, prior.of(name, model.config.quality_prior).output_tokens)


def is_simple(model: CatalogModel) -> bool:
    """Whether costs and places are told by the configuration and our own counts alone."""
    return (
        model.config.gpu_usd_per_hour is None
        and model.config.balance in {"least_loaded", "listed"}
        and all(
            isinstance(backend.transport, LeanClient)
            and "chat" in backend.endpoints
            and not backend.extra_fields
            for backend in model.backends
        )
    )
