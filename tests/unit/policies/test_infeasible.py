import pytest

from policies import choose
from policies.infeasible import excess
from policies.types import Infeasible, Needs, RoutingFlags, Violation


def plan(pool, needs=None, **flags):
    return choose(pool, RoutingFlags(**flags), needs or Needs())


def refused(pool, needs=None, **flags):
    with pytest.raises(Infeasible) as caught:
        plan(pool, needs, **flags)
    return caught.value


def test_an_empty_pool_has_no_backend():
    for how in ("error", "relax", "best_effort"):
        error = refused([], on_infeasible=how)
        assert (error.binding, error.nearest) == ("backend", None)


def test_the_nearest_of_those_that_break_one_constraint_binds(candidate):
    error = refused(
        [
            candidate("a", cost_usd=0.04),
            candidate("b", cost_usd=0.02),
            candidate("c", cost_usd=0.9),
        ],
        max_cost_usd=0.01,
    )
    assert (error.binding, error.nearest) == ("max_cost_usd", 0.02)
    assert str(error) == (
        "no model satisfies max_cost_usd 0.01; the nearest is b with max_cost_usd 0.02"
    )


def test_the_nearest_value_is_feasible(candidate):
    pool = [candidate(f"m{i}", cost_usd=0.1 / 3 + i / 7) for i in range(5)]
    nearest = refused(pool, max_cost_usd=0.01).nearest
    assert plan(pool, max_cost_usd=nearest).chosen == "m0"


def test_different_limits_compare_by_their_share_of_the_value(candidate):
    """0.06 for 0.05 is nearer than 300 for 200."""
    pool = [
        candidate("dear", cost_usd=0.06, ttft_ms=100.0),
        candidate("slow", cost_usd=0.01, ttft_ms=300.0),
    ]
    error = refused(pool, max_cost_usd=0.05, max_ttft_ms=200.0)
    assert (error.binding, error.nearest) == ("max_cost_usd", 0.06)


def test_one_constraint_far_off_comes_before_two_that_are_near(candidate):
    pool = [
        candidate("nearly", cost_usd=0.011, ttft_ms=101.0),
        candidate("dear", cost_usd=5.0, ttft_ms=50.0),
    ]
    error = refused(pool, max_cost_usd=0.01, max_ttft_ms=100.0)
    assert (error.binding, error.nearest) == ("max_cost_usd", 5.0)


def test_where_several_must_go_the_one_missed_by_the_least_is_named(candidate):
    error = refused(
        [candidate("a", cost_usd=0.02, ttft_ms=110.0)], max_cost_usd=0.01, max_ttft_ms=100.0
    )
    assert (error.binding, error.nearest) == ("max_ttft_ms", 110.0)
    assert "max_ttft_ms 100.0 and max_cost_usd 0.01" in str(error)


def test_what_is_known_to_be_near_comes_before_what_is_unknown(candidate):
    pool = [candidate("unpriced", cost_usd=None), candidate("priced", cost_usd=0.01)]
    error = refused(pool, max_cost_usd=0.0)
    assert (error.binding, error.nearest) == ("max_cost_usd", 0.01)
    alone = refused(pool[:1], max_cost_usd=0.0)
    assert (alone.binding, alone.nearest) == ("max_cost_usd", None)


@pytest.mark.parametrize(
    ("first", "second", "flags", "binding", "nearest"),
    [
        # What the caller can loosen by a number comes before what he cannot.
        ({"is_usable": False}, {"cost_usd": 1.0}, {"max_cost_usd": 0.1}, "max_cost_usd", 1.0),
        # A model that is down may come back; the caller's lists are his clearest word.
        ({"is_usable": False}, {}, {"deny": ("second",)}, "backend", None),
        ({"is_usable": False}, {"context_tokens": 10}, {}, "backend", None),
        ({"context_tokens": 10}, {"context_tokens": 60}, {}, "context_tokens", 60),
        ({"context_tokens": 10}, {"capabilities": frozenset()}, {}, "context_tokens", 10),
        ({"capabilities": frozenset()}, {}, {"allow": ("first",)}, "capabilities", None),
        ({}, {}, {"allow": ("third",)}, "models.allow", None),
        ({}, {}, {"deny": ("first", "second")}, "models.deny", None),
    ],
)
def test_which_kind_of_constraint_binds(candidate, first, second, flags, binding, nearest):
    pool = [candidate("first", **first), candidate("second", **second)]
    error = refused(pool, Needs(100, frozenset({"tools"})), **flags)
    assert (error.binding, error.nearest) == (binding, nearest)


TIGHT = {"max_latency_ms": 10.0, "max_ttft_ms": 10.0, "max_cost_usd": 0.001, "min_quality": 0.9}


@pytest.mark.parametrize(
    ("pool", "relaxed", "order"),
    [
        # Latency goes before time to first token, that before cost, that before quality.
        (
            [{"latency_ms": 90.0}, {"ttft_ms": 90.0}, {"cost_usd": 9.0}, {"quality": 0.1}],
            ("max_latency_ms",),
            ("m0",),
        ),
        ([{"ttft_ms": 90.0}, {"cost_usd": 9.0}, {"quality": 0.1}], ("max_ttft_ms",), ("m0",)),
        ([{"cost_usd": 9.0}, {"quality": 0.1}], ("max_cost_usd",), ("m0",)),
        ([{"quality": 0.1}, {"quality": 0.2}], ("min_quality",), ("m1", "m0")),
        # Two lesser limits go before a greater one; one that is not in the way stays.
        (
            [{"latency_ms": 90.0, "ttft_ms": 90.0}, {"cost_usd": 9.0}],
            ("max_latency_ms", "max_ttft_ms"),
            ("m0",),
        ),
        (
            [
                {"latency_ms": 90.0, "cost_usd": 9.0},
                {"cost_usd": 8.0},
                {"ttft_ms": None, "quality": 0},
            ],
            ("max_cost_usd",),
            ("m1",),
        ),
    ],
)
def test_relax_gives_up_as_little_as_it_can(candidate, pool, relaxed, order):
    good = {"latency_ms": 1.0, "ttft_ms": 1.0, "cost_usd": 0.0, "quality": 1.0}
    made = [candidate(f"m{i}", **{**good, **values}) for i, values in enumerate(pool)]
    decision = plan(made, on_infeasible="relax", **TIGHT)
    assert decision.relaxed == relaxed
    assert decision.order == order
    assert [e.candidate.model for e in decision.evaluated if e.is_feasible] == sorted(order)


def test_nothing_is_relaxed_while_somebody_is_feasible(candidate):
    pool = [candidate("a", cost_usd=0.2), candidate("b", cost_usd=0.1, quality=0.1)]
    for how in ("relax", "best_effort"):
        decision = plan(pool, max_cost_usd=0.1, on_infeasible=how)
        assert (decision.order, decision.relaxed) == (("b",), ())


@pytest.mark.parametrize("how", ["relax", "best_effort"])
@pytest.mark.parametrize(
    ("values", "flags", "binding"),
    [
        ({"is_usable": False}, {}, "backend"),
        ({}, {"allow": ("other",)}, "models.allow"),
        ({}, {"deny": ("m",)}, "models.deny"),
        ({"capabilities": frozenset()}, {}, "capabilities"),
        ({"context_tokens": 10}, {}, "context_tokens"),
    ],
)
def test_firm_constraints_are_never_given_up(candidate, how, values, flags, binding):
    """Nor is the blame put on a limit that would have been given up."""
    error = refused(
        [candidate("m", **values)],
        Needs(100, frozenset({"tools"})),
        on_infeasible=how,
        max_cost_usd=0.0,
        **flags,
    )
    assert error.binding == binding


@pytest.mark.parametrize("how", ["relax", "best_effort"])
def test_a_limit_is_never_relaxed_past_the_clamp_of_the_key(candidate, how):
    within = candidate("within", quality=0.2, cost_usd=0.05)
    beyond = candidate("beyond", quality=0.9, cost_usd=0.5)
    unknown = candidate("unknown", quality=0.9, cost_usd=None)
    flags = {"max_cost_usd": 0.01, "clamps": {"max_cost_usd": 0.1}, "on_infeasible": how}
    decision = plan([within, beyond, unknown], **flags)
    assert decision.order == ("within",)
    assert decision.relaxed == ("max_cost_usd",)
    error = refused([beyond, unknown], **flags)
    assert (error.binding, error.nearest) == ("max_cost_usd", 0.5)


def test_best_effort_ranks_by_the_least_total_excess(candidate):
    pool = [
        candidate("half", cost_usd=0.02, quality=0.9),
        candidate("tenth", cost_usd=0.01, ttft_ms=111.0, quality=0.1),
        candidate("both", cost_usd=0.02, ttft_ms=111.0, quality=1.0),
        candidate("unknown", cost_usd=None, quality=1.0),
        candidate("down", is_usable=False, ttft_ms=1.0),
    ]
    decision = plan(pool, max_cost_usd=0.01, max_ttft_ms=100.0, on_infeasible="best_effort")
    assert decision.order == ("tenth", "half", "both", "unknown")
    assert decision.relaxed == ("max_ttft_ms",)
    assert decision.reason == "best effort: max_ttft_ms off by 10%"
    assert [e.is_feasible for e in decision.evaluated] == [False] * 5
    assert [e.objective_value for e in decision.evaluated] == [None] * 5


def test_best_effort_leaves_equal_excess_to_the_objective(candidate):
    pool = [candidate("b", quality=0.3), candidate("a", quality=0.3), candidate("c", quality=0.4)]
    decision = plan(pool, max_cost_usd=0.0, on_infeasible="best_effort")
    assert decision.order == ("c", "a", "b")


def test_best_effort_says_that_a_value_is_unknown(candidate):
    decision = plan(
        [candidate("a", ttft_ms=None)],
        max_ttft_ms=5.0,
        on_infeasible="best_effort",
    )
    assert decision.reason == "best effort: max_ttft_ms unknown"


@pytest.mark.parametrize(
    ("violation", "value"),
    [
        (Violation("max_cost_usd", 1.0, 2.0), 0.5),
        (Violation("min_quality", 0.8, 0.6), 0.25),
        (Violation("max_cost_usd", 1.0, None), 2.0),
        (Violation("context_tokens", 200.0, 100.0), 20.5),
    ],
)
def test_how_far_off_a_violation_counts(violation, value):
    assert excess(violation) == pytest.approx(value)


def test_what_has_no_number_is_named_without_one(candidate):
    error = refused([candidate("a")], deny=("a",))
    assert str(error) == "no model satisfies models.deny; the nearest is a"
