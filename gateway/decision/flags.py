"""The four layers of routing flags made one: what a request asks for and what its key permits.

A body outranks flags inside the prompt, those the headers, they the model's name, that the key's
defaults. Each layer overrides field by field; an ``objective`` replaces all weights below it,
``weights`` single goals. Last come the clamps of the key, which no layer gets past.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, cast

from gateway.decision.flag_fields import (
    HEADER_PREFIX,
    SESSION_HEADER,
    FlagError,
    RoutingFields,
    parse_number,
    path_part,
    read_body,
    read_choice,
    read_headers,
    read_routing,
    read_share,
)
from gateway.errors import quoted
from policies.presets import DEFAULT_PROFILE, PROFILE_ALIASES, PROFILES, threshold_weights
from policies.types import RouterName, RoutingFlags

__all__ = [
    "FlagError",
    "KeyRouting",
    "ModelRequest",
    "ParsedFlags",
    "RoutingFields",
    "parse_flags",
    "parse_model_name",
    "plain_auto",
    "read_routing",
]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model's name asks for: a ``pinned`` model, or ``auto`` with what its name adds."""

    pinned: str | None = None
    profile: str | None = None
    router: RouterName | None = None
    threshold: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyRouting:
    """What a key says of routing: ``defaults`` that a request may change, and clamps it may not.

    ``defaults`` come from ``read_routing``; they say how to choose, so a request that names its
    model leaves them aside. The clamps hold for every request: only models of ``allow`` (None is
    all), none of ``deny``, and bounds that a request can only make tighter. ``reads_inline_flags``
    permits flags inside the prompt.
    """

    defaults: RoutingFields = field(default_factory=RoutingFields)
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    min_quality: float | None = None
    max_cost_usd: float | None = None
    max_ttft_ms: float | None = None
    max_latency_ms: float | None = None
    reads_inline_flags: bool = False


@dataclass(frozen=True, slots=True)
class ParsedFlags:
    """The flags in force, and what the caller should be told about them."""

    flags: RoutingFlags
    warnings: tuple[str, ...] = ()

    @property
    def effective(self) -> dict[str, object]:
        """The flags as a ``routing`` object, every weight spelled out; a new one at each call."""
        flags = self.flags
        document: dict[str, object] = {
            "objective": flags.objective,
            "weights": dict(flags.weights),
            "min_quality": flags.min_quality,
            "quality_bound": flags.quality_bound,
            "max_cost_usd": flags.max_cost_usd,
            "max_ttft_ms": flags.max_ttft_ms,
            "max_latency_ms": flags.max_latency_ms,
            "models": {
                "allow": None if flags.allow is None else list(flags.allow),
                "deny": list(flags.deny),
            },
            "on_infeasible": flags.on_infeasible,
            "explain": flags.explain,
            "session_id": flags.session_id,
            "router": flags.router,
        }
        for name in ("max_input_usd_per_mtok", "max_output_usd_per_mtok"):
            if (ceiling := getattr(flags, name)) is not None:
                document[name] = ceiling
        if flags.guarantee is not None:
            promise = flags.guarantee
            document["guarantee"] = {"risk": promise.risk, "confidence": promise.confidence}
        if flags.cascade is not None:
            document["cascade"] = {
                "accept": flags.cascade.accept,
                "verifier": flags.cascade.verifier,
            }
        if flags.willingness_to_pay_usd is not None:
            document["willingness_to_pay"] = flags.willingness_to_pay_usd
        return document


_FREE = KeyRouting()
#: Fields by which a layer says what to weigh, so that a policy of the operator does not.
_OBJECTIVE_FIELDS = frozenset({"objective", "weights", "willingness_to_pay_usd"})

_AUTO_NAMES = ("auto", "openrouter/auto")
_VIRTUAL = {
    **{name: ModelRequest() for name in _AUTO_NAMES},
    **{
        f"{name}:{suffix}": ModelRequest(profile=profile)
        for name in _AUTO_NAMES
        for suffix, profile in {**{p: p for p in PROFILES}, **PROFILE_ALIASES}.items()
    },
}

_ROUTELLM = re.compile(r"router-([a-z_]+)-(.+)")
#: RouteLLM's routers by the router of ours that works most alike: ``sw_ranking`` weighs outcomes by
#: similarity, the others predict from the prompt.
_ROUTELLM_ROUTERS: dict[str, RouterName] = {
    "perceptive": "perceptive",
    "retriever": "retriever",
    "ensemble": "ensemble",
    "mf": "perceptive",
    "bert": "perceptive",
    "causal_llm": "perceptive",
    "sw_ranking": "retriever",
}


def plain_auto(name: str) -> ModelRequest | None:
    """What ``auto`` or ``auto:PROFILE`` asks for; None for any other name."""
    return _VIRTUAL.get(name)


def parse_model_name(name: str) -> ModelRequest:
    """Read the ``model`` of a request. A name that is not one of ours pins that model.

    Raises FlagError for ``model`` when it speaks to the router and cannot be understood.
    """
    known = _VIRTUAL.get(name)
    if known is not None:
        return known
    base = name.partition(":")[0]
    if base in _AUTO_NAMES:
        read_choice(name, "model", tuple(known for known in _VIRTUAL if known.startswith(base)))
    if name.startswith("router-"):
        return _parse_routellm_name(name)
    return ModelRequest(pinned=name)


def _parse_routellm_name(name: str) -> ModelRequest:
    match = _ROUTELLM.fullmatch(name)
    if match is None or match[1] not in _ROUTELLM_ROUTERS:
        known = ", ".join(_ROUTELLM_ROUTERS)
        raise FlagError(
            "model",
            f"must read router-<name>-<threshold>, the name one of {known}, not {quoted(name)}",
        )
    try:
        threshold = read_share(parse_number(match[2], "model"), "model")
    except FlagError:
        raise FlagError(
            "model", f"must end in a threshold from 0 to 1, not {quoted(match[2])}"
        ) from None
    router = match[1]
    ours = _ROUTELLM_ROUTERS[router]
    warnings = () if router == ours else (f"router {router} is answered by {ours}",)
    return ModelRequest(router=ours, threshold=threshold, warnings=warnings)


_PLAIN = {
    profile: ParsedFlags(
        RoutingFlags(
            objective=profile or DEFAULT_PROFILE,
            weights=dict(PROFILES[profile or DEFAULT_PROFILE]),
            asks_objective=profile is not None,
        )
    )
    for profile in (None, *PROFILES)
}


def parse_flags(
    model: ModelRequest,
    headers: Mapping[str, str],
    body: Mapping[str, object],
    key_defaults: KeyRouting | None = None,
    inline: RoutingFields | None = None,
) -> ParsedFlags:
    """Merge the layers of one request and clamp them to what its key permits.

    ``headers`` have lower-case names; ``body`` holds the decoded routing fields of the request,
    ``inline`` the flags of its prompt.
    Raises FlagError naming the first field that cannot be used.
    """
    is_flagged = SESSION_HEADER in headers or any(h.startswith(HEADER_PREFIX) for h in headers)
    is_plain = not body and not is_flagged and not inline
    if is_plain and key_defaults is None and model.threshold is None:
        return _plain(model)
    return _parse_layers(model, headers if is_flagged else {}, inline or {}, body, key_defaults)


@lru_cache(maxsize=4096)
def _plain(model: ModelRequest) -> ParsedFlags:
    """The flags of a request that says nothing but its model's name, which is most of them."""
    if model.pinned is None:
        return _PLAIN[model.profile]
    return _parse_layers(model, {}, {}, {}, None)


def _parse_layers(
    model: ModelRequest,
    headers: Mapping[str, str],
    inline: RoutingFields,
    body: Mapping[str, object],
    key_defaults: KeyRouting | None,
) -> ParsedFlags:
    is_pinned = model.pinned is not None
    in_body, warnings = read_body(body, is_pinned)
    in_headers = read_headers(headers) if headers else RoutingFields()
    asked = [_model_layer(model), in_headers, inline, in_body]
    key = key_defaults if key_defaults is not None else _FREE
    merged = _merge(asked if is_pinned else [key.defaults, *asked])
    clamps = _clamp(merged, key, asked, warnings)
    asks_objective = any(
        not _OBJECTIVE_FIELDS.isdisjoint(layer) for layer in (key.defaults, *asked)
    )
    flags = RoutingFlags(
        **merged, clamps=clamps, is_pinned=is_pinned, asks_objective=asks_objective
    )
    return ParsedFlags(flags, (*model.warnings, *warnings))


def _model_layer(model: ModelRequest) -> RoutingFields:
    layer: RoutingFields = {}
    if model.pinned is not None:
        layer["allow"] = (model.pinned,)
    if model.profile is not None:
        layer["objective"] = model.profile
    if model.threshold is not None:
        layer["objective"] = DEFAULT_PROFILE
        layer["weights"] = threshold_weights(model.threshold)
    if model.router is not None:
        layer["router"] = model.router
    return layer


def _merge(layers: list[RoutingFields]) -> RoutingFields:
    """Lay each layer over those before it; the lowest comes first."""
    merged: RoutingFields = {}
    weights = dict(PROFILES[DEFAULT_PROFILE])
    for layer in layers:
        if "objective" in layer:
            weights = dict(PROFILES[layer["objective"]])
            merged.pop("willingness_to_pay_usd", None)
        if "willingness_to_pay_usd" in layer:
            weights.pop("cost", None)
        merged.update(layer)
        if "weights" in layer:
            weights.update(layer["weights"])
            if "cost" in layer["weights"]:
                merged.pop("willingness_to_pay_usd", None)
    merged["weights"] = weights
    return merged


_Bound = Literal["min_quality", "max_cost_usd", "max_ttft_ms", "max_latency_ms"]
_BOUNDS: dict[_Bound, bool] = {
    "min_quality": True,
    "max_cost_usd": False,
    "max_ttft_ms": False,
    "max_latency_ms": False,
}


def _clamp(
    merged: RoutingFields, key: KeyRouting, asked: list[RoutingFields], warnings: list[str]
) -> dict[str, float]:
    """Tighten ``merged`` to what the key permits; what the request asked and lost is a warning.

    Returns the key's bounds by the name of the constraint.
    """
    clamps: dict[str, float] = {}
    for name, is_floor in _BOUNDS.items():
        bound = cast("float | None", getattr(key, name))
        if bound is None:
            continue
        clamps[name] = bound
        limit = merged.get(name, bound)
        merged[name] = max(limit, bound) if is_floor else min(limit, bound)
        if merged[name] != limit and any(name in layer for layer in asked):
            warnings.append(f"{name} {limit:g} was changed to {bound:g}, the limit of this key")
    if key.allow is not None:
        _clamp_allow(merged, key.allow, warnings)
    merged["deny"] = tuple(dict.fromkeys((*merged.get("deny", ()), *key.deny)))
    return clamps


def _clamp_allow(merged: RoutingFields, allow: tuple[str, ...], warnings: list[str]) -> None:
    asked = merged.get("allow")
    if asked is None:
        merged["allow"] = allow
        return
    permitted = frozenset(allow)
    merged["allow"] = tuple(name for name in asked if name in permitted)
    lost = [path_part(name) for name in asked if name not in permitted]
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        warnings.append(f"models.allow: this key does not permit {', '.join(lost[:3])}{more}")
