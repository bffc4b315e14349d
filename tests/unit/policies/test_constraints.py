import pytest

from policies.constraints import find_violations, is_beyond
from policies.types import Needs, RoutingFlags, Violation

TOOLS = frozenset({"tools"})


@pytest.mark.parametrize(
    ("values", "flags", "needs", "broken"),
    [
        ({}, {}, Needs(), None),
        ({"is_usable": False}, {}, Needs(), Violation("backend", None, None)),
        ({}, {"allow": ("m", "n")}, Needs(), None),
        ({}, {"allow": ("n",)}, Needs(), Violation("models.allow", None, None)),
        ({}, {"allow": ()}, Needs(), Violation("models.allow", None, None)),
        ({}, {"deny": ("n",)}, Needs(), None),
        ({}, {"deny": ("m",)}, Needs(), Violation("models.deny", None, None)),
        ({"capabilities": TOOLS}, {}, Needs(capabilities=TOOLS), None),
        ({"capabilities": None}, {}, Needs(capabilities=TOOLS), None),
        (
            {"capabilities": frozenset()},
            {},
            Needs(capabilities=TOOLS),
            Violation("capabilities", None, None),
        ),
        ({"context_tokens": 100}, {}, Needs(100), None),
        ({"context_tokens": None}, {}, Needs(10**9), None),
        ({"context_tokens": 99}, {}, Needs(100), Violation("context_tokens", 100, 99)),
        ({"quality": 0.7}, {"min_quality": 0.7}, Needs(), None),
        ({"quality": 0.6}, {"min_quality": 0.7}, Needs(), Violation("min_quality", 0.7, 0.6)),
        ({"cost_usd": 2.0}, {"max_cost_usd": 2.0}, Needs(), None),
        ({"cost_usd": 2.5}, {"max_cost_usd": 2.0}, Needs(), Violation("max_cost_usd", 2.0, 2.5)),
        ({"cost_usd": None}, {"max_cost_usd": 2.0}, Needs(), Violation("max_cost_usd", 2.0, None)),
        ({"cost_usd": None}, {}, Needs(), None),
        ({"ttft_ms": 50.0}, {"max_ttft_ms": 50.0}, Needs(), None),
        ({"ttft_ms": 51.0}, {"max_ttft_ms": 50.0}, Needs(), Violation("max_ttft_ms", 50.0, 51.0)),
        ({"quality": 0.5, "quality_low": 0.4}, {"min_quality": 0.5}, Needs(), None),
        (
            {"quality": 0.5, "quality_low": 0.4},
            {"min_quality": 0.5, "quality_bound": "low"},
            Needs(),
            Violation("min_quality", 0.5, 0.4),
        ),
        (
            {"quality": 0.5, "quality_low": 0.4, "cost_usd": 2.0},
            {"min_quality": 0.4, "quality_bound": "low", "max_cost_usd": 1.0},
            Needs(),
            Violation("max_cost_usd", 1.0, 2.0),
        ),
        ({"input_usd_per_mtok": 1.0}, {"max_input_usd_per_mtok": 1.0}, Needs(), None),
        (
            {"input_usd_per_mtok": 1.5},
            {"max_input_usd_per_mtok": 1.0},
            Needs(),
            Violation("max_input_usd_per_mtok", 1.0, 1.5),
        ),
        (
            {},
            {"max_output_usd_per_mtok": 1.0},
            Needs(),
            Violation("max_output_usd_per_mtok", 1.0, None),
        ),
        ({"ttft_ms": None}, {"max_ttft_ms": 50.0}, Needs(), Violation("max_ttft_ms", 50.0, None)),
        ({"latency_ms": 50.0}, {"max_latency_ms": 50.0}, Needs(), None),
        (
            {"latency_ms": 51.0},
            {"max_latency_ms": 9.0},
            Needs(),
            Violation("max_latency_ms", 9, 51),
        ),
        (
            {"latency_ms": None},
            {"max_latency_ms": 9.0},
            Needs(),
            Violation("max_latency_ms", 9, None),
        ),
    ],
)
def test_one_constraint(candidate, values, flags, needs, broken):
    found = find_violations([candidate("m", **values)], RoutingFlags(**flags), needs)
    assert found == [() if broken is None else (broken,)]


def test_violations_come_in_the_stated_order(candidate):
    worst = candidate("m", is_usable=False, capabilities=frozenset(), context_tokens=1)
    flags = RoutingFlags(
        allow=("n",), deny=("m",), min_quality=1, max_cost_usd=0, max_ttft_ms=0, max_latency_ms=0
    )
    found = find_violations([worst], flags, Needs(2, TOOLS))
    assert [v.constraint for v in found[0]] == [
        "backend",
        "models.allow",
        "models.deny",
        "capabilities",
        "context_tokens",
        "min_quality",
        "max_cost_usd",
        "max_ttft_ms",
        "max_latency_ms",
    ]


def test_a_quality_that_is_no_number_does_not_pass_a_floor(candidate):
    broken = find_violations(
        [candidate("m", quality=float("nan"))], RoutingFlags(min_quality=0.0), Needs()
    )
    assert [v.constraint for v in broken[0]] == ["min_quality"]


def test_is_beyond():
    assert is_beyond("min_quality", 0.4, 0.5)
    assert not is_beyond("min_quality", 0.5, 0.5)
    assert is_beyond("max_cost_usd", 0.6, 0.5)
    assert is_beyond("max_cost_usd", None, 0.5)
