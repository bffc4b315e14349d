"""The synonyms of other gateways, and errors: each names the field that is wrong."""

import pytest

from gateway.decision.flags import (
    FlagError,
    KeyRouting,
    ModelRequest,
    parse_flags,
    parse_model_name,
)

AUTO = parse_model_name("auto")


def refused(headers=None, body=None):
    with pytest.raises(FlagError) as caught:
        parse_flags(AUTO, headers or {}, body or {})
    assert str(caught.value).startswith(caught.value.field)
    return caught.value


def flags(headers=None, body=None, key=None):
    return parse_flags(AUTO, headers or {}, body or {}, key).flags


@pytest.mark.parametrize(
    ("body", "name", "value"),
    [
        ({"models": ["a", "b"]}, "allow", ("a", "b")),
        ({"session_id": "s"}, "session_id", "s"),
        ({"provider": {"max_price": {"request": 0.5}}}, "max_cost_usd", 0.5),
        ({"provider": {"max_price": {"prompt": 0.5}}}, "max_input_usd_per_mtok", 0.5),
        ({"provider": {"max_price": {"completion": 2}}}, "max_output_usd_per_mtok", 2.0),
        ({"max_cost": 0.25}, "max_cost_usd", 0.25),
        ({"max_cost": 0.25, "provider": {"max_price": {"request": 0.5}}}, "max_cost_usd", 0.25),
        ({"willingness_to_pay": 0.1}, "willingness_to_pay_usd", 0.1),
        # The names of our own come first.
        ({"models": ["a"], "routing": {"models": {"allow": ["b"]}}}, "allow", ("b",)),
        ({"session_id": "s", "routing": {"session_id": "t"}}, "session_id", "t"),
        ({"max_cost": 0.25, "routing": {"max_cost_usd": 0.5}}, "max_cost_usd", 0.5),
        # Null is unset.
        ({"models": None, "provider": None, "max_cost": None}, "max_cost_usd", None),
        ({"provider": {"max_price": None}, "willingness_to_pay": None}, "max_cost_usd", None),
        ({"provider": {"max_price": {"prompt": None}}}, "max_cost_usd", None),
        ({"routing": None}, "objective", "best"),
    ],
)
def test_synonyms(body, name, value):
    assert getattr(flags(body=body), name) == value


@pytest.mark.parametrize(
    ("model", "headers", "body", "willingness", "weights"),
    [
        ("auto:cheap", {}, {"willingness_to_pay": 0.1}, 0.1, {}),
        ("auto", {"x-routing-weights": "cost=1,size=1"}, {"willingness_to_pay": 1}, 1, {"size": 1}),
        (
            "auto",
            {},
            {"willingness_to_pay": 0.1, "routing": {"weights": {"cost": 0.3}}},
            None,
            {"cost": 0.3},
        ),
        (
            "auto",
            {},
            {"willingness_to_pay": 0.1, "routing": {"objective": "balanced"}},
            0.1,
            {"latency": 0.1},
        ),
    ],
)
def test_willingness_to_pay_stands_for_the_weight_of_cost(
    model, headers, body, willingness, weights
):
    parsed = parse_flags(parse_model_name(model), headers, body)
    assert parsed.flags.willingness_to_pay_usd == willingness
    assert parsed.flags.weights == weights
    assert parsed.effective.get("willingness_to_pay") == willingness


@pytest.mark.parametrize(
    ("headers", "gone"),
    [
        ({"x-routing-weights": "cost=0.5"}, True),
        ({"x-routing-objective": "fast"}, True),
        ({"x-routing-weights": "size=0.5"}, False),
    ],
)
def test_a_layer_above_replaces_willingness_to_pay(headers, gone):
    key = KeyRouting({"willingness_to_pay_usd": 0.1})
    assert (flags(headers=headers, key=key).willingness_to_pay_usd is None) == gone


def test_the_session_header_of_others_is_read_below_our_own():
    assert flags(headers={"x-session-id": "s"}).session_id == "s"
    both = {"x-routing-session-id": "t", "x-session-id": "s"}
    assert flags(headers=both).session_id == "t"
    assert flags(headers=both, body={"session_id": "u"}).session_id == "u"


def test_what_is_not_used_is_a_warning():
    body = {"provider": {"sort": "price", "order": ["x"], "a\nb": 1, "d": 1}, "models": ["a"]}
    parsed = parse_flags(AUTO, {}, body)
    assert parsed.warnings == ("not used: provider.sort, provider.order, provider.a\\nb",)
    pinned = parse_flags(ModelRequest(pinned="m"), {}, {"models": ["a"]})
    assert pinned.flags.allow == ("m",)
    assert pinned.warnings == (
        "models is not used: a request that names its model has no fallbacks",
    )


LONG = "x" * 257


@pytest.mark.parametrize(
    ("routing", "field", "message"),
    [
        ([], "routing", "must be an object, not a list"),
        ("cheap", "routing", "must be an object, not a string"),
        (
            {"max_cost": 1},
            "routing.max_cost",
            "is not a routing flag; did you mean routing.max_cost_usd?",
        ),
        ({"zzzz": None}, "routing.zzzz", "is not a routing flag"),
        ({"objective": "chaep"}, "routing.objective", "did you mean cheap?"),
        ({"objective": 1}, "routing.objective", "must be a string, not a number"),
        ({"weights": 1}, "routing.weights", "must be an object, not a number"),
        ({"weights": {"costs": 1}}, "routing.weights.costs", "did you mean routing.weights.cost?"),
        ({"weights": {"cost": "1"}}, "routing.weights.cost", "must be a number, not a string"),
        ({"weights": {"cost": -1}}, "routing.weights.cost", "must be from 0 to 1e+06, not -1"),
        ({"weights": {"cost": 2e6}}, "routing.weights.cost", "must be from 0 to 1e+06"),
        ({"weights": {"cost": True}}, "routing.weights.cost", "not true or false"),
        ({"min_quality": 1.1}, "routing.min_quality", "must be from 0 to 1, not 1.1"),
        ({"min_quality": -0.1}, "routing.min_quality", "must be from 0 to 1"),
        ({"max_cost_usd": -1}, "routing.max_cost_usd", "must be at least 0, not -1"),
        ({"max_cost_usd": float("nan")}, "routing.max_cost_usd", "must be a finite number"),
        ({"max_cost_usd": 10**400}, "routing.max_cost_usd", "must be a finite number"),
        ({"max_ttft_ms": float("inf")}, "routing.max_ttft_ms", "must be a finite number"),
        ({"max_latency_ms": {}}, "routing.max_latency_ms", "must be a number, not an object"),
        ({"models": ["a"]}, "routing.models", "must be an object, not a list"),
        ({"models": {"alow": []}}, "routing.models.alow", "did you mean routing.models.allow?"),
        ({"models": {"allow": []}}, "routing.models.allow", "must name at least one model"),
        ({"models": {"allow": "a"}}, "routing.models.allow", "must be a list of model names"),
        ({"models": {"deny": ["a", 1]}}, "routing.models.deny[1]", "must be a string"),
        ({"models": {"deny": [None]}}, "routing.models.deny[0]", "must be a string, not null"),
        ({"models": {"deny": [""]}}, "routing.models.deny[0]", "1 to 256 characters, not 0"),
        ({"models": {"deny": ["a"] * 1001}}, "routing.models.deny", "at most 1000 entries"),
        ({"on_infeasible": "ignore"}, "routing.on_infeasible", "one of error, relax, best_effort"),
        ({"explain": "all"}, "routing.explain", "must be one of none, summary, full"),
        ({"session_id": LONG}, "routing.session_id", "must have 1 to 256 characters, not 257"),
        ({"session_id": 7}, "routing.session_id", "must be a string, not a number"),
        ({"router": "mf"}, "routing.router", "must be one of perceptive, retriever, ensemble"),
        ({"guarantee": {}}, "routing.guarantee.risk", "is missing"),
        ({"guarantee": 0.1}, "routing.guarantee", "must be an object"),
        ({"guarantee": {"risk": 0.125}}, "routing.guarantee.risk", "must be in hundredths"),
        ({"guarantee": {"risk": 1}}, "routing.guarantee.risk", "must be from 0.01 to 0.99"),
        ({"guarantee": {"risk": 0.1, "alpha": 1}}, "routing.guarantee.alpha", "is not a routing"),
        ({"cascade": 1}, "routing.cascade", "must be an object, not a number"),
        ({"cascade": {"accept": 2}}, "routing.cascade.accept", "must be from 0 to 1, not 2"),
        ({"cascade": {"accept": "x"}}, "routing.cascade.accept", "must be a number"),
        ({"cascade": {"verifier": ""}}, "routing.cascade.verifier", "1 to 256 characters"),
        ({"cascade": {"judge": "m"}}, "routing.cascade.judge", "is not a routing flag"),
        ({7: 1}, "routing.7", "is not a routing flag"),
    ],
)
def test_errors_in_the_body_name_the_field(routing, field, message):
    error = refused(body={"routing": routing})
    assert error.field == field
    assert message in str(error)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"models": "a"}, "models", "must be a list of model names"),
        ({"models": []}, "models", "must name at least one model"),
        ({"session_id": ""}, "session_id", "must have 1 to 256 characters"),
        ({"provider": "x"}, "provider", "must be an object"),
        ({"provider": {"max_price": 1}}, "provider.max_price", "must be an object"),
        ({"provider": {"max_price": {"request": -1}}}, "provider.max_price.request", "at least 0"),
        (
            {"provider": {"max_price": {"image": 1}}},
            "provider.max_price.image",
            "is not offered; prices can be bounded by prompt, completion, request",
        ),
        ({"max_cost": "1"}, "max_cost", "must be a number"),
        ({"willingness_to_pay": 0}, "willingness_to_pay", "must be at least 1e-09, not 0"),
    ],
)
def test_errors_in_synonyms_name_the_field(body, field, message):
    error = refused(body=body)
    assert error.field == field
    assert message in str(error)


@pytest.mark.parametrize(
    ("header", "value", "field", "message"),
    [
        ("max-cost", "1", None, "is not a routing header; did you mean x-routing-max-cost-usd?"),
        ("max-cost-usd", "cheap", None, "must be a number, not 'cheap'"),
        ("max-cost-usd", "1_0", None, "must be a number"),
        ("max-cost-usd", "", None, "must be a number"),
        ("max-cost-usd", "nan", None, "must be a finite number"),
        ("max-cost-usd", "1e999", None, "must be a finite number"),
        ("max-cost-usd", "-1", None, "must be at least 0"),
        ("min-quality", "2", None, "must be from 0 to 1"),
        ("objective", "", None, "must be one of best, balanced"),
        ("weights", "", None, "must read like cost=0.3,latency=0.1"),
        ("weights", "cost", None, "must read like cost=0.3,latency=0.1"),
        ("weights", "cost=x", "x-routing-weights.cost", "must be a number"),
        ("weights", "price=1", "x-routing-weights.price", "is not a routing flag"),
        ("weights", '{"cost": "1"}', "x-routing-weights.cost", "must be a number"),
        ("weights", '{"cost": NaN}', "x-routing-weights.cost", "must be a finite number"),
        ("weights", '{"cost": 1', None, "is not valid JSON"),
        ("weights", '{"cost":' + "[" * 10**5, None, "is not valid JSON"),
        ("models-allow", "", None, "must name at least one model"),
        ("models-deny", "a,,b", "x-routing-models-deny[1]", "must have 1 to 256 characters"),
        ("on-infeasible", "no", None, "must be one of error, relax, best_effort"),
        ("explain", "yes", None, "must be one of none, summary, full"),
        ("session-id", LONG, None, "must have 1 to 256 characters"),
        ("router", "x", None, "must be one of perceptive, retriever, ensemble"),
        ("guarantee", "{}", "x-routing-guarantee.risk", "is missing"),
        ("guarantee", "risk=0", "x-routing-guarantee.risk", "must be from 0.01 to 0.99"),
        ("guarantee", "0.1", None, "must read like risk=0.1,confidence=0.9"),
        ("cascade", "1", None, "must be true, false or accept=0.9, not '1'"),
        ("cascade", "accept=x", None, "must be a number"),
        ("cascade", "judge=m", "x-routing-cascade.judge", "is not a routing flag"),
    ],
)
def test_errors_in_headers_name_the_header(header, value, field, message):
    name = f"x-routing-{header}"
    error = refused(headers={name: value})
    assert error.field == (field or name)
    assert message in str(error)


def test_an_error_never_carries_more_than_a_line_of_what_was_sent():
    for body in ({"a" * 10**5: 1}, {"objective": "a" * 10**5}, {"a\r\nb": 1}):
        text = str(refused(body={"routing": body}))
        assert len(text) < 500
        assert text.isprintable()
