import json

import pytest

from gateway.decision.flags import (
    FlagError,
    KeyRouting,
    ModelRequest,
    ParsedFlags,
    parse_flags,
    parse_model_name,
    read_routing,
)
from policies.presets import PROFILES
from policies.types import Cascade, Guarantee, RoutingFlags

AUTO = parse_model_name("auto")
ORDINARY_HEADERS = {"host": "localhost", "authorization": "Bearer x", "x-request-id": "1"}


def flags(model="auto", headers=None, body=None, key=None, inline=None):
    return parse_flags(parse_model_name(model), headers or {}, body or {}, key, inline).flags


# Model names.


@pytest.mark.parametrize("base", ["auto", "openrouter/auto"])
def test_auto_and_its_profiles(base):
    assert parse_model_name(base) == ModelRequest()
    for profile in PROFILES:
        assert parse_model_name(f"{base}:{profile}") == ModelRequest(profile=profile)
        assert flags(f"{base}:{profile}") == RoutingFlags(
            objective=profile, weights=dict(PROFILES[profile])
        )
    assert flags(base) == flags("auto:best")
    assert parse_model_name(f"{base}:floor").profile == "cheap"
    assert parse_model_name(f"{base}:nitro").profile == "fast"


@pytest.mark.parametrize(
    "name", ["qwen3-30b", "automatic", "meta/llama:free", "Auto", "router", ""]
)
def test_any_other_name_pins(name):
    assert parse_model_name(name) == ModelRequest(pinned=name)
    assert flags(name).is_pinned
    assert flags(name).allow == (name,)


@pytest.mark.parametrize(
    ("name", "router", "threshold", "warnings"),
    [
        ("router-perceptive-0.3", "perceptive", 0.3, ()),
        ("router-retriever-1", "retriever", 1.0, ()),
        ("router-ensemble-0", "ensemble", 0.0, ()),
        ("router-mf-0.11593", "perceptive", 0.11593, ("router mf is answered by perceptive",)),
        ("router-bert-1e-3", "perceptive", 0.001, ("router bert is answered by perceptive",)),
        (
            "router-causal_llm-.5",
            "perceptive",
            0.5,
            ("router causal_llm is answered by perceptive",),
        ),
        (
            "router-sw_ranking-0.2",
            "retriever",
            0.2,
            ("router sw_ranking is answered by retriever",),
        ),
    ],
)
def test_routellm_names(name, router, threshold, warnings):
    request = parse_model_name(name)
    assert request == ModelRequest(router=router, threshold=threshold, warnings=warnings)
    parsed = parse_flags(request, {}, {})
    assert parsed.flags == RoutingFlags(weights={"cost": threshold}, router=router)
    assert parsed.warnings == warnings


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("auto:cheep", "'auto:cheep' is none of them; did you mean auto:cheap?"),
        ("auto:", "must be one of auto, auto:best"),
        ("openrouter/auto:fst", "did you mean openrouter/auto:fast?"),
        ("router-mf", "must read router-<name>-<threshold>"),
        ("router-random-0.5", "the name one of perceptive, retriever, ensemble, mf"),
        ("router-mf-1.5", "must end in a threshold from 0 to 1, not '1.5'"),
        ("router-mf--1", "must end in a threshold from 0 to 1, not '-1'"),
        ("router-mf-nan", "must end in a threshold from 0 to 1, not 'nan'"),
        ("router-mf-high", "must end in a threshold from 0 to 1, not 'high'"),
    ],
)
def test_names_that_cannot_be_understood(name, message):
    with pytest.raises(FlagError) as caught:
        parse_model_name(name)
    assert caught.value.field == "model"
    assert message in str(caught.value)


# One flag at each layer. Of each: a value for the body, the header's twin, the flag it sets.

FLAGS = [
    ({"objective": "fast"}, {"objective": "fast"}, "objective", "fast"),
    ({"weights": {"size": 0.5}}, {"weights": "size=0.5"}, "weights", {"size": 0.5}),
    ({"min_quality": 0.25}, {"min-quality": "0.25"}, "min_quality", 0.25),
    ({"quality_bound": "low"}, {"quality-bound": "low"}, "quality_bound", "low"),
    ({"max_cost_usd": 0.5}, {"max-cost-usd": "0.5"}, "max_cost_usd", 0.5),
    ({"max_ttft_ms": 250}, {"max-ttft-ms": "250"}, "max_ttft_ms", 250.0),
    ({"max_latency_ms": 2e3}, {"max-latency-ms": "2e3"}, "max_latency_ms", 2000.0),
    ({"models": {"allow": ["a", "b"]}}, {"models-allow": "a, b"}, "allow", ("a", "b")),
    ({"models": {"deny": ["a", "b"]}}, {"models-deny": "a,b"}, "deny", ("a", "b")),
    ({"on_infeasible": "relax"}, {"on-infeasible": "relax"}, "on_infeasible", "relax"),
    ({"explain": "full"}, {"explain": "full"}, "explain", "full"),
    ({"session_id": "s 1"}, {"session-id": "s 1"}, "session_id", "s 1"),
    ({"router": "retriever"}, {"router": "retriever"}, "router", "retriever"),
    (
        {"max_input_usd_per_mtok": 2},
        {"max-input-usd-per-mtok": "2"},
        "max_input_usd_per_mtok",
        2.0,
    ),
    (
        {"max_output_usd_per_mtok": 2},
        {"max-output-usd-per-mtok": "2"},
        "max_output_usd_per_mtok",
        2.0,
    ),
    (
        {"guarantee": {"risk": 0.05}},
        {"guarantee": "risk=0.05"},
        "guarantee",
        Guarantee(0.05, 0.9),
    ),
    (
        {"cascade": {"accept": 0.5, "verifier": "v"}},
        {"cascade": "accept=0.5, verifier=v"},
        "cascade",
        Cascade(0.5, "v"),
    ),
    ({"cascade": True}, {"cascade": "true"}, "cascade", Cascade(0.8)),
]
OTHERS = {
    "objective": "small",
    "weights": {"size": 0.75},
    "min_quality": 0.75,
    "quality_bound": "mean",
    "max_cost_usd": 0.75,
    "max_ttft_ms": 75.0,
    "max_latency_ms": 75.0,
    "allow": ("other",),
    "deny": ("other",),
    "on_infeasible": "best_effort",
    "explain": "none",
    "session_id": "other",
    "router": "ensemble",
    "max_input_usd_per_mtok": 7.0,
    "max_output_usd_per_mtok": 7.0,
    "guarantee": Guarantee(0.25, 0.75),
    "cascade": Cascade(0.25),
}


def as_headers(twin):
    return {f"x-routing-{name}": value for name, value in twin.items()}


@pytest.mark.parametrize(("body", "twin", "name", "value"), FLAGS, ids=[f[2] for f in FLAGS])
class TestEveryFlag:
    def test_in_the_body(self, body, twin, name, value):
        assert getattr(flags(body={"routing": body}), name) == value

    def test_in_a_header(self, body, twin, name, value):
        assert getattr(flags(headers=as_headers(twin)), name) == value

    def test_as_the_default_of_the_key(self, body, twin, name, value):
        assert getattr(flags(key=KeyRouting(read_routing(body))), name) == value

    def test_body_and_header_say_the_same(self, body, twin, name, value):
        assert flags(body={"routing": body}) == flags(headers=as_headers(twin))

    def test_inside_the_prompt(self, body, twin, name, value):
        assert getattr(flags(inline=read_routing(body)), name) == value

    def test_the_body_outranks_the_prompt(self, body, twin, name, value):
        found = flags(body={"routing": body}, inline={name: OTHERS[name]})
        assert getattr(found, name) == value

    def test_the_prompt_outranks_the_header(self, body, twin, name, value):
        found = flags(headers=as_headers(twin), inline={name: OTHERS[name]})
        assert getattr(found, name) == OTHERS[name]

    def test_the_prompt_outranks_the_default_of_the_key(self, body, twin, name, value):
        found = flags(inline=read_routing(body), key=KeyRouting({name: OTHERS[name]}))
        assert getattr(found, name) == value

    def test_the_body_outranks_the_header(self, body, twin, name, value):
        other = parse_flags(AUTO, {}, {}, KeyRouting({name: OTHERS[name]})).effective
        found = flags(headers=as_headers(twin), body={"routing": other})
        assert getattr(found, name) == OTHERS[name]

    def test_the_header_outranks_the_default_of_the_key(self, body, twin, name, value):
        found = flags(headers=as_headers(twin), key=KeyRouting({name: OTHERS[name]}))
        assert getattr(found, name) == value

    def test_the_body_outranks_the_default_of_the_key(self, body, twin, name, value):
        found = flags(body={"routing": body}, key=KeyRouting({name: OTHERS[name]}))
        assert getattr(found, name) == value

    def test_a_request_that_names_its_model_leaves_defaults_aside(self, body, twin, name, value):
        assert flags("m", key=KeyRouting(read_routing(body))) == flags("m")

    def test_null_is_unset(self, body, twin, name, value):
        unset = {key: None for key in body}
        found = flags(headers=as_headers(twin), body={"routing": unset})
        assert getattr(found, name) == value

    def test_what_is_in_force_can_be_sent_again(self, body, twin, name, value):
        parsed = parse_flags(AUTO, {}, {"routing": body})
        again = parse_flags(AUTO, {}, {"routing": json.loads(json.dumps(parsed.effective))})
        assert again == parsed


@pytest.mark.parametrize(
    ("model", "headers", "body", "key", "objective"),
    [
        ("auto", None, None, None, "best"),
        ("auto", None, None, "small", "small"),
        ("auto:fast", None, None, "small", "fast"),
        ("auto:fast", "cheap", None, "small", "cheap"),
        ("auto:fast", "cheap", "secure", "small", "secure"),
        ("auto:fast", None, "secure", None, "secure"),
    ],
)
def test_precedence_of_the_objective(model, headers, body, key, objective):
    found = flags(
        model,
        {"x-routing-objective": headers} if headers else None,
        {"routing": {"objective": body}} if body else None,
        KeyRouting({"objective": key}) if key else None,
    )
    assert found.objective == objective
    assert found.weights == PROFILES[objective]


@pytest.mark.parametrize(
    ("model", "headers", "body", "key", "weights"),
    [
        # Weights are laid over those of the objective, goal by goal.
        ("auto:balanced", "cost=0.5", {}, {}, {"cost": 0.5, "latency": 0.1}),
        ("auto:balanced", "cost=0.5", {"weights": {"cost": 0}}, {}, {"cost": 0, "latency": 0.1}),
        ("auto", "cost=0.5", {}, {"weights": {"size": 1.0}}, {"cost": 0.5, "size": 1.0}),
        # An objective replaces all weights below it.
        ("auto:best", None, {}, {"weights": {"size": 1.0}}, {}),
        ("auto", "cost=0.5,size=2", {"objective": "fast"}, {}, {"latency": 100.0}),
        (
            "auto",
            None,
            {"objective": "fast", "weights": {"latency": 1, "size": 2}},
            {},
            {"latency": 1.0, "size": 2.0},
        ),
        # RouteLLM's threshold is the weight of cost, and of nothing else.
        ("router-mf-0.25", None, {}, {"objective": "fast"}, {"cost": 0.25}),
        ("router-mf-0.25", "cost=0.5", {}, {}, {"cost": 0.5}),
    ],
)
def test_precedence_of_weights(model, headers, body, key, weights):
    found = flags(
        model,
        {"x-routing-weights": headers} if headers else None,
        {"routing": body},
        KeyRouting(read_routing(key)),
    )
    assert found.weights == weights


def test_the_router_of_a_name_yields_to_a_header():
    found = flags("router-retriever-0.5", {"x-routing-router": "ensemble"})
    assert found.router == "ensemble"
    assert (
        flags("router-retriever-0.5", key=KeyRouting({"router": "ensemble"})).router == "retriever"
    )


def test_weights_in_a_header_may_be_json():
    found = flags(headers={"x-routing-weights": '{"cost": 0.3, "size": 1}'})
    assert found.weights == {"cost": 0.3, "size": 1.0}


# The policy of a key.


@pytest.mark.parametrize(
    ("body", "key", "name", "value", "warnings"),
    [
        ({}, {"max_cost_usd": 0.5}, "max_cost_usd", 0.5, ()),
        ({"max_cost_usd": 0.25}, {"max_cost_usd": 0.5}, "max_cost_usd", 0.25, ()),
        (
            {"max_cost_usd": 0.75},
            {"max_cost_usd": 0.5},
            "max_cost_usd",
            0.5,
            ("max_cost_usd 0.75 was changed to 0.5, the limit of this key",),
        ),
        ({}, {"min_quality": 0.5}, "min_quality", 0.5, ()),
        ({"min_quality": 0.75}, {"min_quality": 0.5}, "min_quality", 0.75, ()),
        (
            {"min_quality": 0.25},
            {"min_quality": 0.5},
            "min_quality",
            0.5,
            ("min_quality 0.25 was changed to 0.5, the limit of this key",),
        ),
        (
            {"max_ttft_ms": 9},
            {"max_ttft_ms": 5.0},
            "max_ttft_ms",
            5.0,
            ("max_ttft_ms 9 was changed to 5, the limit of this key",),
        ),
        (
            {"max_latency_ms": 9},
            {"max_latency_ms": 5.0},
            "max_latency_ms",
            5.0,
            ("max_latency_ms 9 was changed to 5, the limit of this key",),
        ),
        # A default of the key that its own clamp cuts is nobody's disappointment.
        (
            {},
            {"max_cost_usd": 0.5, "defaults": {"max_cost_usd": 0.75}},
            "max_cost_usd",
            0.5,
            (),
        ),
        ({}, {"allow": ("a", "b")}, "allow", ("a", "b"), ()),
        ({"models": {"allow": ["b"]}}, {"allow": ("a", "b")}, "allow", ("b",), ()),
        (
            {"models": {"allow": ["c", "b", "d", "e", "f"]}},
            {"allow": ("a", "b")},
            "allow",
            ("b",),
            ("models.allow: this key does not permit c, d, e and 1 more",),
        ),
        (
            {"models": {"allow": ["c"]}},
            {"allow": ("a",)},
            "allow",
            (),
            ("models.allow: this key does not permit c",),
        ),
        ({"models": {"deny": ["a"]}}, {"deny": ("b", "a")}, "deny", ("a", "b"), ()),
    ],
)
def test_clamps(body, key, name, value, warnings):
    parsed = parse_flags(AUTO, {}, {"routing": body}, KeyRouting(**key))
    assert getattr(parsed.flags, name) == value
    assert parsed.warnings == warnings
    for bound in ("min_quality", "max_cost_usd", "max_ttft_ms", "max_latency_ms"):
        assert parsed.flags.clamps.get(bound) == key.get(bound)


def test_a_pinned_model_is_clamped_too():
    key = KeyRouting(allow=("a",), deny=("b",), max_cost_usd=0.5)
    parsed = parse_flags(ModelRequest(pinned="m"), {}, {}, key)
    assert parsed.flags.allow == ()
    assert parsed.flags.deny == ("b",)
    assert parsed.flags.max_cost_usd == 0.5
    assert parsed.warnings == ("models.allow: this key does not permit m",)


# Cost of the common case.


def test_a_request_without_flags_shares_one_result_per_profile():
    for name in ("auto", "auto:fast"):
        first, second = (
            parse_flags(parse_model_name(name), dict(ORDINARY_HEADERS), {}) for _ in range(2)
        )
        assert first is second
    assert first.effective is not second.effective


def test_what_is_in_force_by_default():
    assert ParsedFlags(RoutingFlags()).effective == {
        "objective": "best",
        "weights": {},
        "min_quality": None,
        "quality_bound": "mean",
        "max_cost_usd": None,
        "max_ttft_ms": None,
        "max_latency_ms": None,
        "models": {"allow": None, "deny": []},
        "on_infeasible": "error",
        "explain": "summary",
        "session_id": None,
        "router": "perceptive",
    }
