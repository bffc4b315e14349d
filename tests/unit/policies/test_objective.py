import pytest

from policies.objective import goal_costs, rank, weigh
from policies.types import GOALS, RoutingFlags


def values(pool, **flags):
    return weigh(pool, RoutingFlags(**flags)).values


def test_without_weights_it_is_the_loss(candidate):
    weighed = weigh([candidate("a", quality=0.75), candidate("b", quality=0.5)], RoutingFlags())
    assert weighed.values == [0.25, 0.5]
    assert weighed.terms == {}


@pytest.mark.parametrize(
    ("goal", "attribute", "better", "between", "worse"),
    [
        ("cost", "cost_usd", 1.0, 2.0, 3.0),
        ("latency", "latency_ms", 10.0, 20.0, 30.0),
        ("size", "parameters_b", 1.0, 4.0, 7.0),
        ("recency", "released_day", 20300, 20200, 20100),
        ("security", "security_level", 3, 2, 1),
        ("verbosity", "output_tokens", 100.0, 200.0, 300.0),
        ("readability", "readability", 0.75, 0.5, 0.25),
    ],
)
def test_each_goal_is_scaled_to_the_unit_interval(
    candidate, goal, attribute, better, between, worse
):
    pool = [
        candidate(name, quality=1.0, **{attribute: value})
        for name, value in (("a", worse), ("b", better), ("c", between))
    ]
    assert values(pool, weights={goal: 2.0}) == [2.0, 0.0, 1.0]


def test_every_goal_has_a_cost(candidate):
    pool = [candidate("a"), candidate("b")]
    assert values(pool, weights=dict.fromkeys(GOALS, 1.0)) == [0.5, 0.5]


def test_goal_costs_are_what_is_scaled(candidate):
    pool = [
        candidate("a", quality=1.0, cost_usd=4.0, parameters_b=7.0, released_day=20_000),
        candidate("b", quality=1.0, cost_usd=1.0, parameters_b=3.0, released_day=20_100),
        candidate("c", quality=1.0, cost_usd=2.0, parameters_b=3.0, released_day=None),
    ]
    assert set(goal_costs(pool[0])) == set(GOALS)
    assert goal_costs(pool[0])["recency"] == -20_000, "the older, the dearer"
    assert goal_costs(pool[2])["recency"] is None
    for goal in ("cost", "size"):
        costs = [goal_costs(c)[goal] for c in pool]
        scaled = [(c - min(costs)) / (max(costs) - min(costs)) for c in costs]
        assert values(pool, weights={goal: 1.0}) == scaled


def test_equal_costs_weigh_nothing(candidate):
    pool = [candidate("a", cost_usd=3.0), candidate("b", cost_usd=3.0)]
    assert values(pool, weights={"cost": 5.0}) == [0.5, 0.5]


def test_an_unknown_value_is_the_mean_of_the_scaled_known_ones(candidate):
    costs = (0.0, 1.0, 4.0, None)
    pool = [candidate(f"m{c}", quality=1.0, cost_usd=c) for c in costs]
    assert values(pool, weights={"cost": 1.0}) == [0.0, 0.25, 1.0, 1.25 / 3]


def test_a_goal_that_is_unknown_for_all_weighs_nothing(candidate):
    pool = [candidate("a", cost_usd=None), candidate("b", cost_usd=None)]
    assert values(pool, weights={"cost": 1.0}) == [0.5, 0.5]


def test_terms_are_what_the_values_are_made_of(candidate):
    pool = [candidate("a", cost_usd=1.0), candidate("b", cost_usd=2.0, latency_ms=500.0)]
    weighed = weigh(pool, RoutingFlags(weights={"latency": 0.5, "cost": 0.25}))
    assert weighed.terms == {"cost": [0.0, 0.25], "latency": [0.5, 0.0]}
    assert weighed.values == [1.0, 0.75]


def test_the_order_of_the_weights_does_not_matter(candidate):
    pool = [
        candidate(f"m{i}", cost_usd=0.1 * i, latency_ms=0.7 * i * i, output_tokens=9.1 / (i + 1))
        for i in range(7)
    ]
    weights = {"cost": 0.1, "latency": 0.2, "verbosity": 0.3}
    backwards = dict(reversed(weights.items()))
    assert values(pool, weights=weights) == values(pool, weights=backwards)


def test_willingness_to_pay_trades_dollars_for_tenths_of_quality(candidate):
    """The dearer model is worth it exactly when it gains 0.1 for every 0.02 USD more."""
    cheap = candidate("cheap", quality=0.50, cost_usd=0.0)
    middle = candidate("middle", quality=0.55, cost_usd=0.02)
    dear = candidate("dear", quality=0.90, cost_usd=0.06)
    pool = [cheap, middle, dear]
    flags = RoutingFlags(willingness_to_pay_usd=0.02, weights={"cost": 99.0})
    assert weigh(pool, flags).values == pytest.approx([0.5, 0.55, 0.4])
    stingy = RoutingFlags(willingness_to_pay_usd=0.01)
    assert rank(pool, weigh(pool, stingy).values)[0] == 0


@pytest.mark.parametrize(
    ("costs", "first"),
    [((2.0, 1.0), "b"), ((1.0, 1.0), "a"), ((None, 1.0), "b"), ((None, None), "a")],
)
def test_ties_go_by_lower_cost_then_by_name(candidate, costs, first):
    a, b = (candidate(name, cost_usd=cost) for name, cost in zip("ab", costs, strict=True))
    for pool in ([a, b], [b, a]):
        assert pool[rank(pool, [0.5, 0.5])[0]].model == first
