import pytest

from policies import choose
from policies.types import Needs, RoutingFlags


def plan(pool, **flags):
    return choose(pool, RoutingFlags(**flags), Needs())


def test_a_plan_orders_the_feasible_and_evaluates_all(candidate):
    pool = [
        candidate("low", quality=0.2),
        candidate("high", quality=0.8),
        candidate("down", quality=0.9, is_usable=False),
        candidate("middle", quality=0.5, cost_usd=0.001),
    ]
    decision = plan(pool)
    assert decision.chosen == "high"
    assert decision.order == ("high", "middle", "low")
    assert [e.candidate for e in decision.evaluated] == pool
    assert [e.is_feasible for e in decision.evaluated] == [True, True, False, True]
    assert [e.is_on_pareto_front for e in decision.evaluated] == [False, True, False, True]
    assert [e.objective_value for e in decision.evaluated] == [0.8, 1 - 0.8, None, 0.5]


def test_costs_are_scaled_over_the_feasible_pool_alone(candidate):
    pool = [
        candidate("a", quality=0.6, cost_usd=0.02),
        candidate("b", quality=0.5, cost_usd=0.01),
        candidate("dear", quality=0.9, cost_usd=100.0, is_usable=False),
    ]
    assert plan(pool, weights={"cost": 0.2}).chosen == "b"


@pytest.mark.parametrize(
    ("a", "b", "weights", "reason"),
    [
        (
            {"quality": 0.71},
            {"quality": 0.66},
            {},
            "highest predicted quality 0.71, next b 0.66",
        ),
        ({}, {}, {}, "tied with b, first by name"),
        ({"cost_usd": 0.001}, {}, {}, "tied with b, lower cost"),
        (
            {"quality": 0.9},
            {"quality": 0.2, "cost_usd": 0.0},
            {"cost": 0.2},
            "quality decided: 0.9, next b with 0.2",
        ),
        (
            {"quality": 0.2, "cost_usd": 0.001},
            {"quality": 0.9, "cost_usd": 0.25},
            {"cost": 100.0, "latency": 0.1},
            "cost decided: 0.001 USD, next b with 0.25 USD",
        ),
        (
            {"latency_ms": 90.0},
            {"latency_ms": 200.0},
            {"latency": 1.0},
            "latency decided: 90 ms, next b with 200 ms",
        ),
        (
            {"parameters_b": 3.0},
            {"parameters_b": 30.0},
            {"size": 1.0},
            "size decided: 3B parameters, next b with 30B parameters",
        ),
        (
            {"released_day": 20206},
            {"released_day": 0},
            {"recency": 1.0},
            "recency decided: 2025-04-28, next b with 1970-01-01",
        ),
        (
            {"security_level": 2},
            {"security_level": 1},
            {"security": 1.0},
            "security decided: 2 security level, next b with 1 security level",
        ),
        (
            {"output_tokens": 20.0},
            {"output_tokens": 500.0},
            {"verbosity": 1.0},
            "verbosity decided: 20 tokens, next b with 500 tokens",
        ),
        (
            {"readability": 0.9},
            {"readability": 0.1},
            {"readability": 1.0},
            "readability decided: 0.9, next b with 0.1",
        ),
    ],
)
def test_reason(candidate, a, b, weights, reason):
    pool = [candidate("a", **a), candidate("b", **b)]
    decision = plan(pool, weights=weights)
    assert decision.chosen == "a"
    assert decision.reason == reason


@pytest.mark.parametrize(
    ("attribute", "goal", "values"),
    [("cost_usd", "cost", (0.0, None, 1.0)), ("released_day", "recency", (20000, None, 10))],
)
def test_reason_where_the_next_best_is_unknown(candidate, attribute, goal, values):
    pool = [candidate(n, **{attribute: v}) for n, v in zip("abc", values, strict=True)]
    assert plan(pool, weights={goal: 1.0}).reason.endswith("next b with unknown")


def test_reason_of_a_choice_without_a_choice(candidate):
    alone = [candidate("a"), candidate("b", is_usable=False)]
    assert plan(alone).reason == "only feasible candidate"
    assert plan(alone[:1], is_pinned=True).reason == "pinned"
    decision = plan(alone[:1], is_pinned=True, max_cost_usd=0.0, on_infeasible="best_effort")
    assert decision.reason == "pinned"
