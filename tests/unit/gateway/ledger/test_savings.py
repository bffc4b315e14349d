from __future__ import annotations

import pytest

from gateway.ledger.savings import compare
from policies.types import Candidate, Evaluated, Violation


def evaluated(
    model: str, quality: float, cost_usd: float | None, *, violated: bool = False
) -> Evaluated:
    candidate = Candidate(model, quality, 0, 1, cost_usd, 100, None, None)
    broken = (Violation("max_cost_usd", 1, 2),) if violated else ()
    return Evaluated(candidate, broken, False, None if violated else 0.0)


def test_each_baseline_is_compared_with_the_model_that_served() -> None:
    pool = [evaluated("big", 0.9, 4.0), evaluated("mid", 0.8, 1.0), evaluated("small", 0.4, 0.1)]
    assert compare(pool, "mid") == (
        (3.0, pytest.approx(0.1)),
        (pytest.approx(-0.9), pytest.approx(-0.4)),
        (pytest.approx(0.7), pytest.approx(-0.1)),
    )


def test_a_model_that_was_not_feasible_is_no_alternative() -> None:
    pool = [
        evaluated("big", 0.9, 4.0, violated=True),
        evaluated("mid", 0.8, 1.0),
        evaluated("small", 0.4, 0.1),
    ]
    compared = compare(pool, "mid")
    assert compared is not None
    assert compared[0] == (0.0, 0.0)


def test_an_unknown_price_is_not_zero() -> None:
    compared = compare([evaluated("a", 0.9, None), evaluated("b", 0.5, 1.0)], "b")
    assert compared is not None
    assert compared[0] == (None, pytest.approx(0.4))
    assert compared[2][0] is None


def test_without_a_choice_there_is_nothing_to_compare() -> None:
    assert compare([evaluated("a", 0.9, 1.0)], "a") is None
    assert compare([evaluated("a", 0.9, 1.0), evaluated("b", 0.5, 1.0)], "gone") is None
