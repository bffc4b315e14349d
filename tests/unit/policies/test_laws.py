"""What holds for every catalogue."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from policies import choose
from policies.constraints import find_violations
from policies.objective import weigh
from policies.pareto import pareto_front
from policies.types import GOALS, Infeasible, Needs, RoutingFlags
from tests.unit.policies.strategies import catalogues, flag_sets, needs, qualities


def attempt(pool, flags, request_needs):
    """The decision, or the error in its stead."""
    try:
        return choose(pool, flags, request_needs)
    except Infeasible as error:
        return error


def honours(c, flags, request_needs):
    """The hard bounds, spelled out a second time."""
    return (
        c.is_usable
        and (flags.allow is None or c.model in flags.allow)
        and c.model not in flags.deny
        and (c.capabilities is None or request_needs.capabilities <= c.capabilities)
        and (c.context_tokens is None or request_needs.context_tokens <= c.context_tokens)
        and (flags.min_quality is None or c.quality >= flags.min_quality)
        and all(
            limit is None or (actual is not None and actual <= limit)
            for limit, actual in (
                (flags.max_cost_usd, c.cost_usd),
                (flags.max_ttft_ms, c.ttft_ms),
                (flags.max_latency_ms, c.latency_ms),
                (flags.max_input_usd_per_mtok, c.input_usd_per_mtok),
                (flags.max_output_usd_per_mtok, c.output_usd_per_mtok),
            )
        )
    )


@given(catalogues(), flag_sets(), needs)
def test_the_order_holds_exactly_those_who_honour_every_bound(pool, flags, request_needs):
    decision = attempt(pool, flags, request_needs)
    expected = {c.model for c in pool if honours(c, flags, request_needs)}
    if isinstance(decision, Infeasible):
        assert not expected
    else:
        assert len(decision.order) == len(expected)
        assert set(decision.order) == expected


@given(catalogues(), flag_sets(), needs)
def test_the_nearest_value_alone_lets_somebody_through_if_one_constraint_binds(
    pool, flags, request_needs
):
    error = attempt(pool, flags, request_needs)
    if not isinstance(error, Infeasible) or error.nearest is None:
        return
    if all(len(verdict) > 1 for verdict in find_violations(pool, flags, request_needs)):
        return
    if error.binding == "context_tokens":
        fitting = replace(request_needs, context_tokens=error.nearest)
        assert choose(pool, flags, fitting).order
    else:
        assert choose(pool, replace(flags, **{error.binding: error.nearest}), request_needs).order


@given(
    catalogues(),
    flag_sets(),
    needs,
    st.sampled_from(["min_quality", "max_cost_usd", "max_ttft_ms", "max_latency_ms"]),
    qualities,
)
def test_a_tighter_bound_never_makes_a_request_feasible(pool, flags, request_needs, name, share):
    limit = getattr(flags, name)
    if name == "min_quality":
        tighter = share if limit is None else max(limit, share)
    else:
        tighter = 16 * share if limit is None else limit * share
    before = attempt(pool, flags, request_needs)
    after = attempt(pool, replace(flags, **{name: tighter}), request_needs)
    if isinstance(before, Infeasible):
        assert isinstance(after, Infeasible)
    elif not isinstance(after, Infeasible):
        assert set(after.order) <= set(before.order)


@given(
    catalogues(is_all_usable=True),
    st.tuples(*[st.sampled_from([0.25, 0.5, 1.0, 3.0])] * 2),
)
def test_the_choice_is_on_the_front_when_cost_and_latency_both_weigh(pool, weights):
    flags = RoutingFlags(weights=dict(zip(("cost", "latency"), weights, strict=True)))
    decision = choose(pool, flags, Needs())
    chosen = next(e for e in decision.evaluated if e.candidate.model == decision.chosen)
    assert chosen.is_on_pareto_front


def dominates(a, b):
    first = (-a.quality, a.cost_usd, a.latency_ms)
    second = (-b.quality, b.cost_usd, b.latency_ms)
    pairs = list(zip(first, second, strict=True))
    if any((x is None) != (y is None) for x, y in pairs):
        return False
    known = [(x, y) for x, y in pairs if x is not None]
    return all(x <= y for x, y in known) and any(x < y for x, y in known)


@given(catalogues())
def test_the_front_is_what_nobody_dominates(pool):
    assert pareto_front(pool) == {
        i for i, c in enumerate(pool) if not any(dominates(other, c) for other in pool)
    }


@given(
    catalogues(),
    st.sampled_from(["error", "relax", "best_effort"]).flatmap(flag_sets),
    needs,
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_candidates_does_not_matter(pool, flags, request_needs, random):
    shuffled = random.sample(pool, len(pool))
    first, second = (attempt(p, flags, request_needs) for p in (pool, shuffled))
    if isinstance(first, Infeasible):
        assert str(first) == str(second)
        assert (first.binding, first.nearest) == (second.binding, second.nearest)
    else:
        assert (first.order, first.reason, first.relaxed) == (
            second.order,
            second.reason,
            second.relaxed,
        )
        by_name = {e.candidate.model: e for e in second.evaluated}
        assert all(by_name[e.candidate.model] == e for e in first.evaluated)


@given(
    catalogues(is_all_usable=True),
    st.dictionaries(st.sampled_from(GOALS), st.floats(0, 100)),
    st.integers(-20, 20),
)
def test_a_common_factor_of_all_prices_changes_nothing(pool, weights, exponent):
    """Powers of two, since other factors round each price by itself."""
    flags = RoutingFlags(weights=weights)
    scaled = [
        replace(c, cost_usd=None if c.cost_usd is None else c.cost_usd * 2.0**exponent)
        for c in pool
    ]
    assert choose(pool, flags, Needs()).order == choose(scaled, flags, Needs()).order


@given(catalogues(), flag_sets("relax"), needs)
def test_relaxing_gives_up_only_what_was_asked_and_what_stood_in_the_way(
    pool, flags, request_needs
):
    strict = attempt(pool, replace(flags, on_infeasible="error"), request_needs)
    relaxed = attempt(pool, flags, request_needs)
    if not isinstance(strict, Infeasible):
        assert relaxed == strict
    elif not isinstance(relaxed, Infeasible):
        assert relaxed.relaxed
        for name in relaxed.relaxed:
            kept = {n: None for n in relaxed.relaxed if n != name}
            tried = replace(flags, on_infeasible="error", **kept)
            assert isinstance(attempt(pool, tried, request_needs), Infeasible)


@settings(max_examples=50)
@given(catalogues(), flag_sets("relax"), needs)
def test_best_effort_answers_whenever_relaxing_does(pool, flags, request_needs):
    relaxed = attempt(pool, flags, request_needs)
    effort = attempt(pool, replace(flags, on_infeasible="best_effort"), request_needs)
    assert isinstance(relaxed, Infeasible) == isinstance(effort, Infeasible)


@given(catalogues(is_all_usable=True), flag_sets())
def test_a_pool_of_one_is_weighed_like_any_other(pool, flags):
    """The short way for one candidate says what the general way would."""
    decision = attempt(pool[:1], flags, Needs())
    if not isinstance(decision, Infeasible):
        assert decision.evaluated[0].objective_value == weigh(pool[:1], flags).values[0]
        assert decision.evaluated[0].is_on_pareto_front
