"""The chances of exploration, number by number: a log replays only if they stay the same bits."""

import pytest

from policies.choose import choose
from policies.explore import chances, chances_to_be_least, pick
from policies.types import Exploration, Needs, RoutingFlags


def plan(*pool):
    return choose(pool, RoutingFlags(), Needs())


@pytest.fixture
def uneven(candidate):
    """Objectives 0.25, 0.5 and 0.75; half-widths of 1.645, 3.29 and 0 deviations of 0.1."""
    return plan(
        candidate("a", quality=0.75, quality_low=0.5855, quality_high=0.9145),
        candidate("b", quality=0.5, quality_low=0.171, quality_high=0.829),
        candidate("c", quality=0.25, quality_low=0.25, quality_high=0.25),
    )


def test_the_chances_of_known_distributions():
    # Four million draws gave 0.6967, 0.1374, 0.1659.
    found = chances_to_be_least([0.1, 0.2, 0.3], [0.1, 0.05, 0.2])
    assert found == pytest.approx(
        [0.6959918875188154, 0.1382346080816872, 0.16577350439949748], rel=1e-12
    )


def test_a_deviation_is_the_share_of_the_interval_that_its_level_says(uneven):
    found = chances(uneven, Exploration("thompson", 1.0))
    expected = chances_to_be_least([0.25, 0.5, 0.75], [0.1, 0.2, 1e-6])
    assert list(found.values()) == pytest.approx(expected, rel=1e-6)


def test_what_is_known_for_sure_is_told_apart(candidate):
    sure = {"quality_low": 0.5, "quality_high": 0.5}
    found = chances(
        plan(candidate("a", quality=0.5, **sure), candidate("b", quality=0.5 - 1e-6, **sure)),
        Exploration("thompson", 1.0),
    )
    # A difference of one deviation each: Φ(1 / √2).
    assert found == pytest.approx({"a": 0.760, "b": 0.240}, abs=0.002)


@pytest.mark.parametrize("within", [0.25, 0.2499])
def test_a_bound_is_met_by_equal(uneven, within):
    found = chances(uneven, Exploration("epsilon", 1.0, within=within))
    assert list(found) == (["a", "b"] if within == 0.25 else ["a"])


def test_a_share_of_nothing_and_a_plan_of_one_explore_nothing(uneven, candidate):
    assert chances(uneven, None) == {"a": 1.0}
    assert chances(uneven, Exploration("thompson", 0.0)) == {"a": 1.0}
    assert chances(plan(candidate("a")), Exploration("epsilon", 1.0)) == {"a": 1.0}
    two = plan(candidate("a", quality=0.75), candidate("b"))
    assert chances(two, Exploration("epsilon", 1.0)) == {"a": 0.5, "b": 0.5}


def test_a_stretch_ends_before_its_end():
    shares = {"a": 0.5, "b": 0.25, "c": 0.25}
    assert [pick(shares, draw) for draw in (0.0, 0.499, 0.5, 0.749, 0.75, 0.999)] == [
        *("a", "a"), *("b", "b"), *("c", "c"),
    ]  # fmt: skip
