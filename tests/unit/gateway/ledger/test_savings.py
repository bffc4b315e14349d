from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    compared = compare(pool, "mid")
    assert compared is not None
    assert (compared.served, len(compared.pool)) == (pool[1].candidate, 3)
    assert compared.differences == (
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
    assert compared.differences[0] == (0.0, 0.0)


def test_an_unknown_price_is_not_zero() -> None:
    compared = compare([evaluated("a", 0.9, None), evaluated("b", 0.5, 1.0)], "b")
    assert compared is not None
    assert compared.differences[0] == (None, pytest.approx(0.4))
    assert compared.differences[2][0] is None


def test_without_a_choice_there_is_nothing_to_compare() -> None:
    assert compare([evaluated("a", 0.9, 1.0)], "a") is None
    assert compare([evaluated("a", 0.9, 1.0), evaluated("b", 0.5, 1.0)], "gone") is None


@given(
    st.lists(
        st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.none() | st.sampled_from([0.0, 1.0, 3.0])),
        min_size=2,
        max_size=6,
    ),
    st.data(),
)
def test_the_one_pass_finds_what_three_would(
    drawn: list[tuple[float, float | None]], data: st.DataObject
) -> None:
    pool = [evaluated(f"m{i}", quality, usd) for i, (quality, usd) in enumerate(drawn)]
    everybody = [e.candidate for e in pool]
    ours = data.draw(st.sampled_from(everybody))
    compared = compare(data.draw(st.permutations(pool)), ours.model)
    assert compared is not None
    to_best, to_cheapest, to_mean = compared.differences

    best = max(everybody, key=lambda c: (c.quality, c.model))
    assert to_best[1] == best.quality - ours.quality
    if best.cost_usd is None or ours.cost_usd is None:
        assert to_best[0] is None
    else:
        assert to_best[0] == best.cost_usd - ours.cost_usd
    priced = [c for c in everybody if c.cost_usd is not None]
    if priced:
        cheapest = min(priced, key=lambda c: (c.cost_usd, c.model))
        assert to_cheapest[1] == cheapest.quality - ours.quality
    else:
        assert to_cheapest == (None, 0.0)
    assert to_mean[1] == pytest.approx(fmean(c.quality for c in everybody) - ours.quality)
    if len(priced) == len(everybody):
        mean_usd = fmean(c.cost_usd or 0.0 for c in priced)
        assert to_mean[0] == pytest.approx(mean_usd - (ours.cost_usd or 0.0))
    else:
        assert to_mean[0] is None
