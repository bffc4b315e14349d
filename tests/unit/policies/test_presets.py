import pytest

from policies import choose
from policies.presets import DEFAULT_PROFILE, PROFILE_ALIASES, PROFILES, threshold_weights
from policies.types import GOALS, Needs, RoutingFlags


def chosen(pool, **flags):
    return choose(pool, RoutingFlags(**flags), Needs()).chosen


def test_names():
    assert list(PROFILES) == [
        "best", "balanced", "cheap", "fast", "small", "fresh", "secure", "concise", "readable",
    ]  # fmt: skip
    assert DEFAULT_PROFILE == "best"
    assert PROFILE_ALIASES == {"floor": "cheap", "nitro": "fast"}
    assert all(goal in GOALS for weights in PROFILES.values() for goal in weights)


@pytest.mark.parametrize(
    ("profile", "attribute", "better", "worse"),
    [
        ("cheap", "cost_usd", 0.001, 0.01),
        ("fast", "latency_ms", 100.0, 1000.0),
        ("small", "parameters_b", 1.0, 70.0),
        ("secure", "security_level", 2, 1),
    ],
)
def test_a_decisive_profile_outweighs_all_of_quality(candidate, profile, attribute, better, worse):
    pool = [
        candidate("good", quality=1.0, **{attribute: worse}),
        candidate("thrifty", quality=0.0, **{attribute: better}),
    ]
    assert chosen(pool, weights=PROFILES[profile]) == "thrifty"
    assert chosen(pool, weights=PROFILES[profile], min_quality=0.5) == "good"


def test_a_decisive_profile_takes_the_better_of_equals(candidate):
    pool = [
        candidate("least", quality=0.2, cost_usd=0.00100),
        candidate("good", quality=0.9, cost_usd=0.00101),
        candidate("dear", quality=0.9, cost_usd=1.0),
    ]
    assert chosen(pool, weights=PROFILES["cheap"]) == "good"


@pytest.mark.parametrize(
    ("profile", "attribute", "better", "worse"),
    [
        ("fresh", "released_day", 20300, 19000),
        ("concise", "output_tokens", 50.0, 500.0),
        ("readable", "readability", 0.9, 0.1),
    ],
)
def test_a_preference_yields_to_a_clearly_better_answer(
    candidate, profile, attribute, better, worse
):
    for quality, winner in ((0.75, "preferred"), (0.95, "good")):
        pool = [
            candidate("good", quality=quality, **{attribute: worse}),
            candidate("preferred", quality=0.4, **{attribute: better}),
        ]
        assert chosen(pool, weights=PROFILES[profile]) == winner


def test_balanced_asks_a_dear_slow_model_only_where_it_earns_it(candidate):
    for quality, winner in ((0.75, "small"), (0.85, "large")):
        pool = [
            candidate("large", quality=quality, cost_usd=0.1, latency_ms=5000.0),
            candidate("small", quality=0.5, cost_usd=0.001, latency_ms=500.0),
        ]
        assert chosen(pool, weights=PROFILES["balanced"]) == winner


@pytest.mark.parametrize(
    ("threshold", "gain", "winner"),
    [
        (0.0, 0.001, "strong"),
        (0.3, 0.31, "strong"),
        (0.3, 0.29, "weak"),
        (1.0, 1.0, "weak"),
    ],
)
def test_threshold_is_the_gain_that_the_dearer_model_must_bring(candidate, threshold, gain, winner):
    pool = [
        candidate("strong", quality=gain, cost_usd=0.1),
        candidate("weak", quality=0.0, cost_usd=0.001),
    ]
    assert chosen(pool, weights=threshold_weights(threshold)) == winner
