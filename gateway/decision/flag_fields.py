"""One layer of routing flags, from its wire form to checked values. It knows no precedence.

A body and the headers say the same things in two forms, so both end in the same checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from math import isfinite
from typing import NoReturn, TypedDict, cast, get_args

from gateway.errors import quoted
from policies.presets import PROFILES
from policies.types import (
    GOALS,
    Cascade,
    Explain,
    Guarantee,
    OnInfeasible,
    QualityBound,
    RouterName,
)

MAX_LIST_ENTRIES = 1000
#: Longest session id and longest model name, in characters.
MAX_NAME_CHARS = 256
#: Far above what any weight needs, and far below where sums of floats lose a quality of 1.
MAX_WEIGHT = 1e6
#: How sure a first answer must be where the caller does not say.
DEFAULT_ACCEPT = 0.8
#: Below this the weight that stands for it would drown every other goal.
MIN_WILLINGNESS_USD = 1e-9

HEADER_PREFIX = "x-routing-"
#: The session header that inference servers and other gateways read.
SESSION_HEADER = "x-session-id"


class FlagError(ValueError):
    """A routing flag cannot be used; ``field`` is its path in the body, or its header."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


class RoutingFields(TypedDict, total=False):
    """What one layer asks for: checked values under the names of RoutingFlags. Absent is unset."""

    objective: str
    weights: dict[str, float]
    willingness_to_pay_usd: float
    min_quality: float
    quality_bound: QualityBound
    max_cost_usd: float
    max_ttft_ms: float
    max_latency_ms: float
    max_input_usd_per_mtok: float
    max_output_usd_per_mtok: float
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    on_infeasible: OnInfeasible
    explain: Explain
    session_id: str
    router: RouterName
    guarantee: Guarantee
    cascade: Cascade


def read_routing(document: object, field: str = "routing") -> RoutingFields:
    """Check a ``routing`` object; null means unset, for the object and for each field.

    Raises FlagError naming the path of what is unknown, mistyped or out of range.
    """
    fields: dict[str, object] = {}
    for name, value in _entries(document, field, _READERS):
        path = f"{field}.{name}"
        if name == "models":
            fields.update(_models(value, path))
        else:
            fields[name] = _READERS[name](value, path)
    return cast("RoutingFields", fields)


def read_body(body: Mapping[str, object], is_pinned: bool) -> tuple[RoutingFields, list[str]]:
    """Read the routing fields of a body: ``routing``, and under it what other gateways call them.

    Returns the fields and warnings about what is not used. Raises FlagError.
    """
    synonyms, warnings = _read_synonyms(body, is_pinned)
    own = read_routing(body.get("routing"))
    if "cost" in own.get("weights", {}):
        synonyms.pop("willingness_to_pay_usd", None)
    return {**synonyms, **own}, warnings


def read_headers(headers: Mapping[str, str]) -> RoutingFields:
    """Read the header twins; names are lower case. Raises FlagError naming the header."""
    fields: dict[str, object] = {}
    session = headers.get(SESSION_HEADER)
    if session is not None:
        fields["session_id"] = _name(session, SESSION_HEADER)
    for header in headers:
        if header.startswith(HEADER_PREFIX):
            twin = _HEADERS.get(header)
            if twin is None:
                _reject_unknown(header, "is not a routing header", _HEADERS)
            name, decode, read = twin
            fields[name] = read(decode(headers[header].strip(), header), header)
    return cast("RoutingFields", fields)


def path_part(name: str) -> str:
    """Show a name that the sender made up as part of a path: printable, at most a line of it."""
    return quoted(name).strip("'\"")


def parse_number(text: str, field: str) -> float:
    """Read a decimal number. Raises FlagError when the text is none."""
    try:
        # Python alone reads 1_000 as a number.
        return float(text.replace("_", "?"))
    except ValueError:
        raise FlagError(field, f"must be a number, not {quoted(text)}") from None


def read_share(value: object, field: str) -> float:
    """Check a number in [0, 1]. Raises FlagError."""
    return _number(value, field, highest=1.0)


def read_choice(value: object, field: str, choices: Mapping[str, object] | tuple[str, ...]) -> str:
    """Check that a value is one of the names. Raises FlagError with the nearest one."""
    if not isinstance(value, str):
        raise FlagError(field, f"must be a string, not {_kind(value)}")
    if value not in choices:
        near = _suggestion(value, choices)
        known = ", ".join(choices)
        raise FlagError(field, f"must be one of {known}; {quoted(value)} is none of them{near}")
    return value


def _read_synonyms(body: Mapping[str, object], is_pinned: bool) -> tuple[RoutingFields, list[str]]:
    """Read OpenRouter's and Martian's names. Two names for a price ceiling: the lower holds."""
    fields: RoutingFields = {}
    warnings: list[str] = []
    if (models := body.get("models")) is not None:
        if is_pinned:
            warnings.append("models is not used: a request that names its model has no fallbacks")
        else:
            fields["allow"] = _allowed(models, "models")
    if (session := body.get("session_id")) is not None:
        fields["session_id"] = _name(session, "session_id")
    ceilings = _read_max_price(body.get("provider"), warnings)
    if (ceiling := body.get("max_cost")) is not None:
        number = _number(ceiling, "max_cost")
        ceilings["max_cost_usd"] = min(number, ceilings.get("max_cost_usd", number))
    fields.update(ceilings)
    if (willingness := body.get("willingness_to_pay")) is not None:
        fields["willingness_to_pay_usd"] = _number(
            willingness, "willingness_to_pay", lowest=MIN_WILLINGNESS_USD
        )
    return fields, warnings


def _read_max_price(provider: object, warnings: list[str]) -> RoutingFields:
    """Read OpenRouter's ``provider.max_price``: USD per million tokens, and USD for a request.

    A ceiling of another kind is refused: one that is not kept is worse than none. Preferences among
    hosts are reported as unused.
    """
    options = dict(_entries(provider, "provider"))
    prices = dict(_entries(options.pop("max_price", None), "provider.max_price"))
    if options:
        names = ", ".join(f"provider.{path_part(name)}" for name in list(options)[:3])
        warnings.append(f"not used: {names}")
    ceilings: dict[str, object] = {}
    for name, price in prices.items():
        field = f"provider.max_price.{path_part(name)}"
        if name not in _MAX_PRICES:
            known = ", ".join(_MAX_PRICES)
            raise FlagError(field, f"is not offered; prices can be bounded by {known}")
        ceilings[_MAX_PRICES[name]] = _number(price, field)
    return cast("RoutingFields", ceilings)


def _entries(
    value: object, field: str, known: Mapping[str, object] | None = None
) -> list[tuple[str, object]]:
    """List what an object sets; an unknown key is an error where the known ones are given."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise FlagError(field, f"must be an object, not {_kind(value)}")
    if known is not None:
        for name in value:
            if name not in known:
                _reject_unknown(str(name), "is not a routing flag", known, f"{field}.")
    return [(name, entry) for name, entry in value.items() if entry is not None]


def _reject_unknown(
    name: str, complaint: str, known: Mapping[str, object], prefix: str = ""
) -> NoReturn:
    raise FlagError(f"{prefix}{path_part(name)}", complaint + _suggestion(name, known, prefix))


def _suggestion(name: str, known: Mapping[str, object] | tuple[str, ...], prefix: str = "") -> str:
    near = get_close_matches(name[:MAX_NAME_CHARS], known, n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _number(value: object, field: str, lowest: float = 0.0, highest: float | None = None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FlagError(field, f"must be a number, not {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise FlagError(field, "must be a finite number") from None
    if not isfinite(number):
        raise FlagError(field, "must be a finite number")
    if number < lowest or (highest is not None and number > highest):
        span = f"at least {lowest:g}" if highest is None else f"from {lowest:g} to {highest:g}"
        raise FlagError(field, f"must be {span}, not {number:g}")
    return number


def _weights(value: object, field: str) -> dict[str, float]:
    return {
        goal: _number(weight, f"{field}.{goal}", highest=MAX_WEIGHT)
        for goal, weight in _entries(value, field, _GOALS)
    }


def _name(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise FlagError(field, f"must be a string, not {_kind(value)}")
    if not 0 < len(value) <= MAX_NAME_CHARS:
        raise FlagError(field, f"must have 1 to {MAX_NAME_CHARS} characters, not {len(value)}")
    return value


def _names(value: object, field: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise FlagError(field, f"must be a list of model names, not {_kind(value)}")
    if len(value) > MAX_LIST_ENTRIES:
        raise FlagError(field, f"must have at most {MAX_LIST_ENTRIES} entries, not {len(value)}")
    return tuple(_name(entry, f"{field}[{place}]") for place, entry in enumerate(value))


def _allowed(value: object, field: str) -> tuple[str, ...]:
    names = _names(value, field)
    if not names:
        raise FlagError(field, "must name at least one model")
    return names


def _models(value: object, field: str) -> dict[str, object]:
    return {
        kind: _MODEL_LISTS[kind](names, f"{field}.{kind}")
        for kind, names in _entries(value, field, _MODEL_LISTS)
    }


def _kind(value: object) -> str:
    kinds = {bool: "true or false", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null" if value is None else "a number")


def _guarantee(value: object, field: str) -> Guarantee:
    entries = dict(_entries(value, field, _GUARANTEE))
    if "risk" not in entries:
        raise FlagError(f"{field}.risk", "is missing: the share of answers that may fail")
    return Guarantee(
        risk=_open_share(entries["risk"], f"{field}.risk"),
        confidence=_open_share(entries.get("confidence", 0.9), f"{field}.confidence"),
    )


def _cascade(value: object, field: str) -> Cascade | None:
    """``true`` for the default one, ``false`` for none."""
    if isinstance(value, bool):
        return Cascade(DEFAULT_ACCEPT) if value else None
    entries = dict(_entries(value, field, _CASCADE))
    verifier = entries.get("verifier")
    return Cascade(
        accept=read_share(entries.get("accept", DEFAULT_ACCEPT), f"{field}.accept"),
        verifier=None if verifier is None else _name(verifier, f"{field}.verifier"),
    )


def _open_share(value: object, field: str) -> float:
    """A share in whole hundredths, so that few distinct promises are ever worked out."""
    share = _number(value, field, lowest=0.01, highest=0.99)
    if round(share, 2) != share:
        raise FlagError(field, f"must be in hundredths, not {share:g}")
    return share


def _pairs_in(text: str, header: str) -> object:
    """Decode ``cost=0.3,latency=0.1``, or the same as a JSON object."""
    if text.startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise FlagError(header, "is not valid JSON") from None
    weights = {}
    for part in text.split(","):
        goal, equals, weight = part.partition("=")
        if not equals:
            example = "risk=0.1,confidence=0.9" if "guarantee" in header else "cost=0.3,latency=0.1"
            raise FlagError(header, f"must read like {example}, not {quoted(text)}")
        goal = goal.strip()
        weights[goal] = parse_number(weight.strip(), f"{header}.{path_part(goal)}")
    return weights


def _list_in(text: str, header: str) -> object:
    return [name.strip() for name in text.split(",")] if text else []


def _text_in(text: str, header: str) -> object:
    return text


def _cascade_in(text: str, header: str) -> object:
    """Decode ``true``, ``false``, or ``accept=0.9,verifier=NAME``, or the same as a JSON object."""
    if text in {"true", "false"}:
        return text == "true"
    if text.startswith("{"):
        return _pairs_in(text, header)
    wish: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise FlagError(header, f"must be true, false or accept=0.9, not {quoted(text)}")
        wish[name] = parse_number(value, header) if name == "accept" else value
    return wish


_Reader = Callable[[object, str], object]
_GOALS = dict.fromkeys(GOALS)
#: What OpenRouter calls the ceilings on prices, and what they are here.
_MAX_PRICES = {
    "prompt": "max_input_usd_per_mtok",
    "completion": "max_output_usd_per_mtok",
    "request": "max_cost_usd",
}
_GUARANTEE = dict.fromkeys(("risk", "confidence"))
_CASCADE = dict.fromkeys(("accept", "verifier"))
_MODEL_LISTS: dict[str, _Reader] = {"allow": _allowed, "deny": _names}
_READERS: dict[str, _Reader] = {
    "objective": partial(read_choice, choices=PROFILES),
    "weights": _weights,
    "min_quality": read_share,
    "quality_bound": partial(read_choice, choices=get_args(QualityBound)),
    "max_cost_usd": _number,
    "max_ttft_ms": _number,
    "max_latency_ms": _number,
    "max_input_usd_per_mtok": _number,
    "max_output_usd_per_mtok": _number,
    "models": _models,
    "on_infeasible": partial(read_choice, choices=get_args(OnInfeasible)),
    "guarantee": _guarantee,
    "cascade": _cascade,
    "explain": partial(read_choice, choices=get_args(Explain)),
    "session_id": _name,
    "router": partial(read_choice, choices=get_args(RouterName)),
}
#: Header -> the field it sets, how its text becomes what a body would hold, and the body's check.
_HEADERS: dict[str, tuple[str, Callable[[str, str], object], _Reader]] = {
    **{
        f"{HEADER_PREFIX}{name.replace('_', '-')}": (name, decode, _READERS[name])
        for decode, names in (
            (_pairs_in, ("weights", "guarantee")),
            (parse_number, ("min_quality", "max_cost_usd", "max_ttft_ms", "max_latency_ms")),
            (parse_number, ("max_input_usd_per_mtok", "max_output_usd_per_mtok")),
            (_text_in, ("objective", "quality_bound", "on_infeasible", "explain", "router")),
            (_text_in, ("session_id",)),
            (_cascade_in, ("cascade",)),
        )
        for name in names
    },
    **{
        f"{HEADER_PREFIX}models-{kind}": (kind, _list_in, read)
        for kind, read in _MODEL_LISTS.items()
    },
}
