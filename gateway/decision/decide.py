"""Join what is predicted, configured and measured into candidates, and let the policy choose."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping

import msgspec

import gateway
from gateway.clock import Clock
from gateway.config import Config, Model
from gateway.decision.arms import Arms, Selected
from gateway.decision.catalog import Catalog, CatalogModel
from gateway.decision.endpoints import Endpoint
from gateway.decision.features import PromptFeatures
from gateway.decision.flags import ModelRequest, ParsedFlags
from gateway.decision.guarantees import Guarantees
from gateway.errors import InvalidRequest, NoUsableBackend, RoutingInfeasible, UnknownModel, quoted
from gateway.upstream.backend import BackendHandle
from policies.types import Candidate, Decision, Infeasible, Situation
from router_models.types import Estimates

#: Quality of a model that nothing is known of, and the whole scale as its interval.
UNKNOWN_QUALITY = 0.5
#: Output tokens assumed where no router predicts them and the caller sets no limit.
UNKNOWN_OUTPUT_TOKENS = 256.0

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

    @property
    def effective_routing(self) -> Mapping[str, object]:
        """The flags in force as a ``routing`` object."""
        return self.parsed.effective


def policy_version(config: Config, router_version: str) -> str:
    """Name everything a decision depends on, apart from the prompt and the live signals."""
    models = config.model_dump_json(
        include={"models": {"__all__": _DECIDING_FIELDS}, "policies": True}
    )
    material = f"{gateway.__version__}\n{router_version}\n{models}"
    return hashlib.sha256(material.encode()).hexdigest()[:16]


class Decider:
    """Turns estimates into a plan for one request."""

    def __init__(
        self, catalog: Catalog, clock: Clock, version: str, arms: Arms, guarantees: Guarantees
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._arms = arms
        self._guarantees = guarantees
        self.version = version

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
        estimates: Estimates | None,
    ) -> RoutedDecision:
        """Choose for one prompt.

        Raises InvalidRequest when no such model serves the endpoint, RoutingInfeasible, or
        NoUsableBackend when nothing at all can be asked now.
        """
        models = self._pool(request, endpoint)
        flags = self._guarantees.resolve(parsed.flags)
        candidates = list(self._candidates(models, endpoint, features, estimates))
        try:
            selected = self._arms.select(
                Situation(tuple(candidates), flags, features.needs, self._arms.draw())
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
            decision_id=f"dec_{secrets.token_hex(12)}",
            policy_version=self.version,
            profile="pinned" if request.pinned is not None else selected.flags.objective,
            plan=plan,
            chosen=chosen,
            warnings=(*parsed.warnings, *_doubts(request, endpoint, parsed, estimates, models)),
            parsed=ParsedFlags(selected.flags, parsed.warnings),
            selected=selected,
        )

    def _pool(self, request: ModelRequest, endpoint: Endpoint) -> list[CatalogModel]:
        models = list(self._catalog.models.values())
        if request.pinned is not None:
            models = [self._catalog.models[request.pinned]]
        serving = [model for model in models if model.serves(endpoint.name)]
        if not serving:
            who = "no configured model" if request.pinned is None else "this model does not"
            verb = "serves" if request.pinned is None else "serve"
            raise InvalidRequest(
                f"{who} {verb} /v1{endpoint.path}", param="model", code="unsupported_endpoint"
            )
        return serving

    def _candidates(
        self,
        models: Iterable[CatalogModel],
        endpoint: Endpoint,
        features: PromptFeatures,
        estimates: Estimates | None,
    ) -> Iterable[Candidate]:
        now_s = self._clock.monotonic_s()
        predictions = _Predictions(estimates)
        for model in models:
            quality, low, high, tokens = predictions.of(model)
            if features.max_output_tokens is not None:
                tokens = min(tokens, float(features.max_output_tokens))
            usable = model.usable_backends(now_s, endpoint.name)
            ttft_ms, latency_ms = _latency(usable[0] if usable else model.backends[0], tokens)
            yield Candidate(
                model=model.name,
                quality=quality,
                quality_low=low,
                quality_high=high,
                cost_usd=model.cost_usd(features.prompt_tokens, tokens),
                output_tokens=tokens,
                ttft_ms=ttft_ms,
                latency_ms=latency_ms,
                context_tokens=model.config.context_tokens,
                parameters_b=model.config.parameters_b,
                released_day=model.released_day,
                security_level=model.config.security_level,
                readability=model.config.readability,
                capabilities=model.capabilities,
                is_usable=bool(usable),
            )


class _Predictions:
    """The estimates of one prompt by model; what the router never saw gets the widest doubt."""

    __slots__ = ("_rows", "_unseen_quality", "_unseen_tokens")

    def __init__(self, estimates: Estimates | None) -> None:
        self._rows: dict[str, tuple[float, float, float, float]] = {}
        self._unseen_quality, self._unseen_tokens = UNKNOWN_QUALITY, UNKNOWN_OUTPUT_TOKENS
        if estimates is not None:
            quality, tokens = estimates.quality.tolist(), estimates.output_tokens.tolist()
            low, high = estimates.quality_low.tolist(), estimates.quality_high.tolist()
            self._rows = dict(
                zip(estimates.models, zip(quality, low, high, tokens, strict=True), strict=True)
            )
            self._unseen_quality = sum(quality) / len(quality)
            self._unseen_tokens = sum(tokens) / len(tokens)

    def of(self, model: CatalogModel) -> tuple[float, float, float, float]:
        """Quality, its interval, and output tokens."""
        row = self._rows.get(model.name)
        if row is not None:
            return row
        prior = model.config.quality_prior
        return self._unseen_quality if prior is None else prior, 0.0, 1.0, self._unseen_tokens


def _latency(backend: BackendHandle, tokens: float) -> tuple[float | None, float | None]:
    """Predicted time to the first token and to the last, from what this backend showed lately."""
    ttft_ms = backend.health.ttft_ms.value
    token_ms = backend.health.token_ms.value
    if ttft_ms is None or token_ms is None:
        return ttft_ms, None
    return ttft_ms, ttft_ms + tokens * token_ms


def _doubts(
    request: ModelRequest,
    endpoint: Endpoint,
    parsed: ParsedFlags,
    estimates: Estimates | None,
    models: list[CatalogModel],
) -> list[str]:
    """What a caller should know of how sure this decision is."""
    if not endpoint.makes_text:
        is_open = request.pinned is None and len(models) > 1
        return ["vectors of different models cannot be compared: name the model"] if is_open else []
    if estimates is None:
        return ["no quality prediction: the router gave none"]
    doubts = []
    if parsed.flags.router != "perceptive":
        doubts.append(f"the {parsed.flags.router} router is not loaded; the perceptive one decided")
    unseen = [m.name for m in models if m.name not in estimates.models]
    if unseen:
        doubts.append(f"no quality prediction for: {', '.join(unseen)}")
    return doubts
