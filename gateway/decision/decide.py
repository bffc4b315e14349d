"""Join what is predicted, configured and measured into candidates, and let the policy choose."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

import gateway
from gateway.clock import Clock
from gateway.decision.arms import Arms, Selected
from gateway.decision.catalog import Catalog, CatalogModel, security_level_of
from gateway.decision.endpoints import Endpoint
from gateway.decision.features import PromptFeatures
from gateway.decision.flags import ModelRequest, ParsedFlags
from gateway.decision.guarantees import Guarantees
from gateway.decision.scoring import NO_PREDICTIONS, Predictions
from gateway.decision.sessions import Pin
from gateway.errors import InvalidRequest, NoUsableBackend, RoutingInfeasible, UnknownModel, quoted
from gateway.ids import new_id
from gateway.settings import Config, Model
from gateway.upstream.backend import BackendHandle
from policies.types import Candidate, Decision, Infeasible, Situation

#: What a decision reads of a model's configuration; its backends are read live.
_DECIDING_FIELDS = set(Model.model_fields) - {"backends"}


class RoutedDecision(msgspec.Struct, frozen=True):
    """A decision with everything that explains it."""

    decision_id: str
    policy_version: str
    profile: str
    plan: Decision
    chosen: Candidate
    warnings: tuple[str, ...]
    parsed: ParsedFlags
    selected: Selected
    #: Why something other than the policy decided; it then stands in place of the policy's reason.
    note: str | None = None

    @property
    def reason(self) -> str:
        return self.note or self.plan.reason

    @property
    def effective_routing(self) -> Mapping[str, object]:
        """The flags in force as a ``routing`` object."""
        return self.parsed.effective


def policy_version(config: Config, router_version: str) -> str:
    """Name everything a decision depends on, apart from the prompt and the live signals."""
    models = config.model_dump_json(
        include={"models": {"__all__": _DECIDING_FIELDS}, "policies": True}
    )
    levels = [security_level_of(model) for model in config.models.values()]
    material = f"{gateway.__version__}\n{router_version}\n{models}\n{levels}"
    return hashlib.sha256(material.encode()).hexdigest()[:16]


class Decider:
    """Turns estimates into a plan for one request."""

    def __init__(
        self,
        catalog: Catalog,
        clock: Clock,
        version: str,
        arms: Arms,
        guarantees: Guarantees,
        fallback: str | None = None,
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._arms = arms
        self._guarantees = guarantees
        self._fallback = fallback
        self.version = version
        #: Who serves what, by the model's name (None for all) and the endpoint: both are configured.
        self._pools: dict[tuple[str | None, str], Sequence[CatalogModel]] = {}

    @property
    def draws(self) -> bool:
        """Whether chance has a part in decisions, so that none can be repeated."""
        return self._arms.draws

    @property
    def has_shadow(self) -> bool:
        """Whether another policy decides beside the one that counts."""
        return self._arms.has_shadow

    def adopt(self, version: str, guarantees: Guarantees) -> None:
        """Go by another version of the router, and by what can be promised with it."""
        self.version = version
        self._guarantees = guarantees

    def check_model(self, request: ModelRequest) -> None:
        """Raise UnknownModel when a pinned model is not configured."""
        if request.pinned is not None:
            self.check_model_name(request.pinned)

    def check_model_name(self, name: str) -> None:
        """Raise UnknownModel when no model of this name is configured."""
        if name not in self._catalog.models:
            known = ", ".join(list(self._catalog.models)[:10])
            raise UnknownModel(
                f"the model {quoted(name)} does not exist; try auto or one of: {known}",
                param="model",
            )

    def decide(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        parsed: ParsedFlags,
        features: PromptFeatures,
        predictions: Predictions,
        pin: Pin | None = None,
    ) -> RoutedDecision:
        """Choose for one prompt; ``pin`` is the model that its conversation is with.

        Raises InvalidRequest when no such model serves the endpoint, RoutingInfeasible, or
        NoUsableBackend when nothing at all can be asked now.
        """
        models = self._pool(request, endpoint)
        flags = self._guarantees.resolve(parsed.flags)
        candidates = self._candidates(models, endpoint, features, predictions, pin)
        is_far = predictions.is_far and request.pinned is None and endpoint.makes_text
        try:
            selected = self._arms.select(
                Situation(
                    candidates,
                    flags,
                    features.needs,
                    self._arms.draw(),
                    pin.model if pin is not None else self._fallback if is_far else None,
                    is_fallback=pin is None and is_far,
                )
            )
        except Infeasible as error:
            if error.binding == "backend":
                raise NoUsableBackend("no backend of a suitable model can be asked now") from error
            raise RoutingInfeasible(
                str(error), constraint=error.binding, nearest=error.nearest
            ) from error
        plan = selected.plan
        chosen = next(c for c in candidates if c.model == plan.chosen)
        return RoutedDecision(
            decision_id=new_id("dec_"),
            policy_version=self.version,
            profile="pinned" if request.pinned is not None else selected.flags.objective,
            plan=plan,
            chosen=chosen,
            warnings=(
                *parsed.warnings,
                *_no_first_try(plan),
                *_doubts(request, endpoint, parsed, predictions, models),
            ),
            parsed=ParsedFlags(selected.flags, parsed.warnings),
            selected=selected,
            note=_far(predictions, plan.chosen, self._fallback) if is_far and pin is None else None,
        )

    def _pool(self, request: ModelRequest, endpoint: Endpoint) -> Sequence[CatalogModel]:
        key = (request.pinned, endpoint.name)
        serving = self._pools.get(key)
        if serving is None:
            models = self._catalog.models
            named = models.values() if request.pinned is None else [models[request.pinned]]
            serving = [model for model in named if model.serves(endpoint.name)]
            self._pools[key] = serving
        if not serving:
            who = "no configured model" if request.pinned is None else "this model does not"
            verb = "serves" if request.pinned is None else "serve"
            raise InvalidRequest(
                f"{who} {verb} /v1{endpoint.path}", param="model", code="unsupported_endpoint"
            )
        return serving

    def _candidates(
        self,
        models: Sequence[CatalogModel],
        endpoint: Endpoint,
        features: PromptFeatures,
        predictions: Predictions,
        pin: Pin | None,
    ) -> tuple[Candidate, ...]:
        now_s = self._clock.monotonic_s()
        limit = features.max_output_tokens
        found = []
        for model in models:
            config = model.config
            predicted = predictions.of(model.name, config.quality_prior)
            tokens = predicted.output_tokens
            if limit is not None and limit < tokens:
                tokens = float(limit)
            usable = model.usable_backends(now_s, endpoint.name)
            backend = usable[0] if usable else model.backends[0]
            ttft_ms, latency_ms = _latency(backend, tokens, now_s)
            price = model.price(features.prompt_tokens, backend)
            cost_usd = input_price = output_price = None
            cached_tokens = 0
            if pin is not None and pin.model == model.name:
                cached_tokens = min(pin.prompt_tokens, features.prompt_tokens)
            if price is not None:
                cost_usd = price.cost_usd(features.prompt_tokens, tokens, cached_tokens)
                input_price, output_price = price.input, price.output
            candidate = Candidate(
                model.name,
                predicted.quality,
                predicted.quality_low,
                predicted.quality_high,
                cost_usd,
                tokens,
                ttft_ms,
                latency_ms,
                config.context_tokens,
                config.parameters_b,
                model.released_day,
                model.security_level,
                model.readability.value,
                model.capabilities,
                bool(usable),
                input_price,
                output_price,
            )
            found.append(candidate)
        return tuple(found)


def _latency(
    backend: BackendHandle, tokens: float, now_s: float
) -> tuple[float | None, float | None]:
    """Predicted time to the first token and to the last, from what this backend showed lately.

    Who waits there now is answered first: with R running, one is done every R-th part of the time
    that an answer takes.
    """
    health = backend.health
    ttft_ms, token_ms = health.ttft_ms.value, health.token_ms.value
    if ttft_ms is None or token_ms is None:
        return ttft_ms, None
    answer_ms = ttft_ms + tokens * token_ms
    told = None if health.signals is None else health.fresh_signals(now_s)
    if told is None or not told.waiting:
        return ttft_ms, answer_ms
    queue_ms = told.waiting * answer_ms / max(1.0, told.running or 0.0)
    return ttft_ms + queue_ms, answer_ms + queue_ms


def _no_first_try(plan: Decision) -> list[str]:
    return [] if plan.no_first_try is None else [f"no cascade: {plan.no_first_try}"]


def _far(predictions: Predictions, chosen: str, fallback: str | None) -> str:
    """The reason of a choice for a prompt that no router knows anything of."""
    who = "router.fallback" if chosen == fallback else "what is expected of any prompt"
    return f"unlike the prompts trained on (nearness {predictions.nearness:.2f}): by {who}"


def _doubts(
    request: ModelRequest,
    endpoint: Endpoint,
    parsed: ParsedFlags,
    predictions: Predictions,
    models: Sequence[CatalogModel],
) -> list[str]:
    """What a caller should know of how sure this decision is."""
    if not endpoint.makes_text:
        is_open = request.pinned is None and len(models) > 1
        return [f"{endpoint.incomparable}: name the model"] if is_open else []
    if predictions is NO_PREDICTIONS:
        return ["no quality prediction: the router gave none"]
    doubts = []
    asked = parsed.flags.router
    if predictions.router not in {asked, "none"}:
        doubts.append(f"the {asked} router is not loaded; the {predictions.router} one decided")
    unseen = [m.name for m in models if m.name not in predictions.by_model]
    if unseen:
        doubts.append(f"no quality prediction for: {', '.join(unseen)}")
    return doubts
