"""Who is asked first under a cascade."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.select import select
from policies.types import Cascade, Guarantee, Infeasible, Needs, RoutingFlags, Situation
from tests.unit.policies.strategies import catalogues, flag_sets, needs, policies

CASCADE = Cascade(0.8)


@pytest.fixture
def pool(candidate):
    """The best is dear; one is cheap and good, one cheaper still and worse."""
    return (
        candidate("best", quality=0.9, cost_usd=1.0, latency_ms=100.0, ttft_ms=10.0),
        candidate("good", quality=0.75, cost_usd=0.25, latency_ms=50.0, ttft_ms=5.0),
        candidate("poor", quality=0.25, cost_usd=0.125, latency_ms=20.0, ttft_ms=2.0),
    )


def plan(pool, cascade=CASCADE, stay_with=None, **flags):
    wish = RoutingFlags(cascade=cascade, **flags)
    return select(Situation(tuple(pool), wish, Needs(), 0.0, stay_with)).decision


def test_the_first_asked_is_the_one_that_is_cheapest_in_expectation(pool):
    # 0.25 + 0.25 · 1 for good, 0.125 + 0.75 · 1 for poor, 1 for nobody.
    decision = plan(pool)
    assert (decision.chosen, decision.first_try, decision.no_first_try) == ("best", "good", None)
    assert decision.order == ("best", "good", "poor")


def test_without_a_cascade_nothing_is_said_of_it(pool):
    decision = plan(pool, cascade=None)
    assert (decision.first_try, decision.no_first_try) == (None, None)


@pytest.mark.parametrize(
    ("better", "cost_usd"),
    [
        ({}, 0.75),  # 0.75 + 0.25 is no less than 1
        ({}, None),
        ({"is_usable": False}, 0.1),
        ({"capabilities": frozenset({"tools"})}, 0.1),
    ],
)
def test_who_saves_nothing_or_cannot_be_asked_or_judged_is_not_tried(candidate, better, cost_usd):
    pool = [
        candidate("best", quality=0.9, cost_usd=1.0),
        candidate("good", quality=0.75, cost_usd=cost_usd, **better),
    ]
    decision = plan(pool)
    assert decision.first_try is None
    assert decision.no_first_try == "no cheaper model is worth asking first"


def test_a_verifier_judges_who_cannot_tell_how_sure_it_is(candidate):
    pool = [
        candidate("best", quality=0.9, cost_usd=1.0),
        candidate("good", quality=0.75, cost_usd=0.1, capabilities=frozenset()),
    ]
    assert plan(pool, Cascade(0.8, "best")).first_try == "good"
    tells = replace(pool[1], capabilities=frozenset({"logprobs"}))
    assert plan([pool[0], tells]).first_try == "good"


def test_no_price_no_cascade(candidate):
    pool = [candidate("best", quality=0.9, cost_usd=None), candidate("good", cost_usd=0.1)]
    assert plan(pool).first_try is None


@pytest.mark.parametrize(
    ("limit", "value", "first_try"),
    [
        # What both come to: 1 + 0.25, 10 + 50, 100 + 50; with poor 1.125, 30, 120.
        ("max_cost_usd", 1.25, "good"),
        ("max_cost_usd", 1.2, "poor"),
        ("max_cost_usd", 1.1, None),
        ("max_ttft_ms", 60.0, "good"),
        ("max_ttft_ms", 59.0, "poor"),
        ("max_ttft_ms", 29.0, None),
        ("max_latency_ms", 150.0, "good"),
        ("max_latency_ms", 149.0, "poor"),
        ("max_latency_ms", 119.0, None),
    ],
)
def test_both_answers_together_keep_every_limit(pool, limit, value, first_try):
    decision = plan(pool, **{limit: value})
    assert (decision.chosen, decision.first_try) == ("best", first_try)
    if first_try is None:
        assert decision.no_first_try == f"two answers together may break {limit}"


@pytest.mark.parametrize(("limit", "first_try"), [(2.25, "good"), (2.1, None)])
def test_the_verifiers_price_counts_too(pool, limit, first_try):
    wish = Cascade(0.8, "best")
    assert plan(pool[:2], wish, max_cost_usd=limit).first_try == first_try


def test_an_unknown_verifier_breaks_what_cannot_be_checked(pool):
    wish = Cascade(0.8, "elsewhere")
    assert plan(pool, wish).first_try == "good"
    decision = plan(pool, wish, max_cost_usd=100.0)
    assert decision.no_first_try == "two answers together may break max_cost_usd"


def test_a_limit_that_was_given_up_binds_no_cascade(pool):
    decision = plan(pool, max_latency_ms=1.0, on_infeasible="relax")
    assert decision.relaxed == ("max_latency_ms",)
    assert decision.first_try == "good"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"is_pinned": True, "allow": ("best",)}, "the request names its model"),
        (
            {"guarantee": Guarantee(0.1, 0.9, ("good", "best"), 0.5)},
            "a guarantee holds for its own order",
        ),
        ({"stay_with": "best"}, "the conversation stays with its model"),
    ],
)
def test_who_has_to_answer_is_asked_at_once(pool, flags, why):
    decision = plan(pool, **flags)
    assert (decision.first_try, decision.no_first_try) == (None, why)
    assert plan(pool, cascade=None, **flags).no_first_try is None


@given(catalogues(), flag_sets(), needs, policies, st.none() | st.sampled_from(["m0", "m1"]))
def test_laws(pool, flags, request_needs, policy, verifier):
    flags = replace(flags, cascade=Cascade(0.5, verifier))
    situation = Situation(tuple(pool), flags, request_needs, 0.5)
    try:
        selection = select(situation, policy)
    except Infeasible:
        return
    decision, by_name = selection.decision, {c.model: c for c in pool}
    plain = select(replace(situation, flags=replace(flags, cascade=None)), policy).decision
    assert decision.order == plain.order, "a cascade changes nobody's place"
    assert (decision.first_try is None) != (decision.no_first_try is None)
    if decision.first_try is None:
        return
    first, chosen = by_name[decision.first_try], by_name[decision.chosen]
    assert decision.first_try in decision.order[1:]
    assert first.cost_usd < chosen.cost_usd
    for limit, together in (
        (selection.flags.max_cost_usd, lambda: first.cost_usd + chosen.cost_usd),
        (selection.flags.max_ttft_ms, lambda: first.latency_ms + chosen.ttft_ms),
        (selection.flags.max_latency_ms, lambda: first.latency_ms + chosen.latency_ms),
    ):
        assert limit is None or together() <= limit
