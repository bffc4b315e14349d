"""A policy fills what a request leaves open, explores within bounds, and knows its own chances."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import choose
from policies.explore import chances, chances_to_be_least, pick
from policies.select import fill, select
from policies.types import Cascade, Exploration, Infeasible, Needs, Policy, RoutingFlags, Situation
from tests.unit.policies.strategies import (
    catalogues,
    explorations,
    fine_catalogues,
    flag_sets,
    needs,
    policies,
)

draws = st.floats(0, 1, exclude_max=True)


def attempt(situation, policy):
    try:
        return select(situation, policy)
    except Infeasible:
        return None


@given(fine_catalogues, flag_sets(), needs, policies, draws)
def test_whatever_is_explored_honours_every_bound(pool, flags, request_needs, policy, draw):
    selection = attempt(Situation(tuple(pool), flags, request_needs, draw), policy)
    if selection is None:
        return
    feasible = choose(pool, selection.flags, request_needs)
    assert set(selection.decision.order) == set(feasible.order)
    assert selection.decision.evaluated == feasible.evaluated


@given(fine_catalogues, flag_sets(), needs, policies, draws)
def test_the_chances_are_a_distribution_over_the_plan(pool, flags, request_needs, policy, draw):
    selection = attempt(Situation(tuple(pool), flags, request_needs, draw), policy)
    if selection is None:
        return
    assert sum(selection.chances.values()) == pytest.approx(1)
    assert all(chance >= 0 for chance in selection.chances.values())
    assert set(selection.chances) <= set(selection.decision.order)
    assert selection.chances[selection.decision.chosen] > 0


@given(catalogues(is_all_usable=True), explorations)
def test_exploration_stays_within_its_share_and_its_bound(pool, exploration):
    decision = choose(pool, RoutingFlags(weights={"cost": 1.0}), Needs())
    found = chances(decision, exploration)
    values = {e.candidate.model: e.objective_value for e in decision.evaluated}
    best = decision.chosen
    assert found[best] >= 1 - exploration.share - 1e-12
    if exploration.within is not None:
        assert all(values[m] <= values[best] + exploration.within for m in found)


def three(candidate):
    return (
        candidate("a", quality=0.9, cost_usd=3.0),
        candidate("b", quality=0.8, cost_usd=2.0),
        candidate("c", quality=0.5, cost_usd=1.0),
    )


def test_epsilon_draws_evenly(candidate):
    decision = choose(three(candidate), RoutingFlags(), Needs())
    found = chances(decision, Exploration("epsilon", 0.3))
    assert found == pytest.approx({"a": 0.8, "b": 0.1, "c": 0.1})
    near = chances(decision, Exploration("epsilon", 0.3, within=0.2))
    assert near == pytest.approx({"a": 0.85, "b": 0.15})


def test_thompson_prefers_what_may_well_be_better(candidate):
    pool = (
        candidate("a", quality=0.9, quality_low=0.8, quality_high=1.0),
        candidate("b", quality=0.8, quality_low=0.4, quality_high=1.0),
        candidate("c", quality=0.5, quality_low=0.45, quality_high=0.55),
    )
    found = chances(choose(pool, RoutingFlags(), Needs()), Exploration("thompson", 1.0))
    assert found["a"] > found["b"] > 0.1
    assert found["c"] < 1e-3


def test_the_chance_to_be_least_of_two_is_that_of_their_difference():
    # P(x < y) for x ~ N(0, 3²), y ~ N(5, 4²): the difference is N(-5, 5²), so Φ(1).
    found = chances_to_be_least([0.0, 5.0], [3.0, 4.0])
    assert found == pytest.approx([0.8413, 0.1587], abs=0.002)
    assert chances_to_be_least([1.0] * 4, [0.5] * 4) == pytest.approx([0.25] * 4)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), draws)
def test_each_model_owns_a_stretch_as_long_as_its_chance(weights, draw):
    whole = sum(weights)
    shares = {f"m{i}": weight / whole for i, weight in enumerate(weights)}
    below = 0.0
    for model, share in shares.items():
        if model == pick(shares, draw):
            assert below - 1e-9 <= draw < below + share + 1e-9
        below += share


def test_the_last_model_owns_what_rounding_left():
    assert pick({"a": 0.5, "b": 0.4}, 0.95) == "b"


def test_what_was_explored_comes_first_and_says_so(candidate):
    policy = Policy(exploration=Exploration("epsilon", 1.0))
    selection = select(Situation(three(candidate), RoutingFlags(), Needs(), draw=0.5), policy)
    assert selection.decision.order == ("b", "a", "c")
    assert selection.decision.reason == "explored in place of a"


def test_a_named_model_is_never_explored_away(candidate):
    policy = Policy(exploration=Exploration("epsilon", 1.0), min_quality=0.95)
    flags = RoutingFlags(is_pinned=True)
    selection = select(Situation(three(candidate), flags, Needs(), draw=0.9), policy)
    assert selection.decision.chosen == "a"
    assert selection.flags is flags


def test_where_nothing_is_explored_the_choice_is_certain(candidate):
    situation = Situation(three(candidate), RoutingFlags(), Needs())
    assert select(situation).chances == {"a": 1.0}
    pinned = replace(situation, flags=RoutingFlags(is_pinned=True))
    assert select(pinned).chances == {"a": 1.0}


def test_best_effort_is_not_explored(candidate):
    flags = RoutingFlags(min_quality=0.99, on_infeasible="best_effort")
    policy = Policy(exploration=Exploration("epsilon", 1.0))
    selection = select(Situation(three(candidate), flags, Needs(), draw=0.9), policy)
    assert selection.chances == {"a": 1.0}


def test_a_conversation_stays_where_that_is_feasible(candidate):
    situation = Situation(three(candidate), RoutingFlags(), Needs(), stay_with="c")
    selection = select(situation, Policy(exploration=Exploration("epsilon", 1.0)))
    assert selection.decision.order == ("c", "a", "b")
    assert selection.decision.reason == "stays with the model of the conversation"
    assert selection.chances == {"c": 1.0}
    moved = select(replace(situation, flags=RoutingFlags(deny=("c",))))
    assert moved.decision.order == ("a", "b")


def test_a_fallback_is_no_conversation(candidate):
    flags = RoutingFlags(cascade=Cascade(0.5))
    situation = Situation(three(candidate), flags, Needs(), stay_with="c", is_fallback=True)
    decision = select(situation).decision
    assert decision.order == ("c", "a", "b")
    assert decision.reason == "falls back, unlike the prompts trained on"
    assert decision.no_first_try == "the prompt goes to the fallback"


def test_the_one_that_would_be_chosen_anyway_keeps_its_reason(candidate):
    situation = Situation(three(candidate), RoutingFlags(), Needs())
    assert select(replace(situation, stay_with="a")).decision == select(situation).decision


def test_a_policy_fills_only_what_is_open():
    policy = Policy("p", "cheap", {"cost": 7.0}, min_quality=0.5, max_cost_usd=2.0)
    open_flags = RoutingFlags()
    filled = fill(open_flags, policy)
    assert (filled.objective, filled.weights) == ("cheap", {"cost": 7.0})
    assert (filled.min_quality, filled.max_cost_usd, filled.max_ttft_ms) == (0.5, 2.0, None)
    asked = RoutingFlags(objective="fast", weights={"latency": 1.0}, asks_objective=True)
    assert fill(asked, policy).weights == {"latency": 1.0}
    assert fill(asked, policy).objective == "fast"
    assert fill(RoutingFlags(min_quality=0.1), policy).min_quality == 0.1


def test_a_policy_without_an_objective_keeps_the_default():
    filled = fill(RoutingFlags(weights={"cost": 1.0}), Policy("p", min_quality=0.5))
    assert (filled.objective, filled.weights) == ("best", {"cost": 1.0})


def test_a_policy_may_be_tighter_than_a_clamp_but_never_looser():
    clamped = RoutingFlags(
        min_quality=0.4, max_cost_usd=1.0, clamps={"min_quality": 0.4, "max_cost_usd": 1.0}
    )
    tighter = fill(clamped, Policy("p", min_quality=0.6, max_cost_usd=0.5))
    assert (tighter.min_quality, tighter.max_cost_usd) == (0.6, 0.5)
    looser = fill(clamped, Policy("p", min_quality=0.2, max_cost_usd=3.0))
    assert (looser.min_quality, looser.max_cost_usd) == (0.4, 1.0)
