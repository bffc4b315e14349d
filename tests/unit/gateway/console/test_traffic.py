"""The sums, shares and savings that the console shows of recent requests."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.console.traffic import traffic_document
from gateway.ledger.accounting import LedgerRow
from gateway.upstream.usage import TokenUsage


def row(model: str = "a", **changes: Any) -> LedgerRow:
    fields: dict[str, Any] = {
        "request_id": "r", "decision_id": "d", "principal": "anonymous", "at_s": 100.0,
        "profile": "best", "chosen_model": model, "model": model, "backend": "b", "reason": "only",
        "outcome": "ok", "error_code": None, "attempts": 1, "usage": TokenUsage(10, 0, 5),
        "cost_nanos": 2_000_000_000, "predicted_quality": 0.5, "ttft_ms": 20.0, "duration_ms": 90.0,
    }  # fmt: skip
    return LedgerRow(**{**fields, **changes})


def test_nothing_yet_is_no_error_and_no_number() -> None:
    told = traffic_document([], tells_keys=False)
    assert (told["since_s"], told["requests"], told["models"]) == (None, [], [])
    assert told["totals"]["requests"] == 0
    assert told["totals"]["cost_usd"] is told["totals"]["ttft_ms"] is None
    assert [b["cost_usd"] for b in told["baselines"]] == [None, None, None]


def test_shares_sum_to_one_the_busiest_first() -> None:
    rows = [row("a"), row("b", cost_nanos=None, ttft_ms=None), row("b", ttft_ms=None), row("b")]
    models = traffic_document(rows, tells_keys=False)["models"]
    assert [(m["model"], m["requests"], m["share"]) for m in models] == [
        ("b", 3, 0.75),
        ("a", 1, 0.25),
    ]
    assert models[0]["cost_usd"] == 4.0, "of those that have a price"
    assert models[0]["ttft_ms"] == {"p50": 20.0, "p95": 20.0}


def test_totals_are_of_all_rows_and_the_newest_come_first() -> None:
    rows = [
        row(at_s=float(n), duration_ms=float(n), outcome="ok" if n % 2 else "error")
        for n in range(1, 301)
    ]
    rows.append(row("b", chosen_model="a", at_s=301.0, duration_ms=301.0, outcome="cancelled"))
    told = traffic_document(rows, tells_keys=False)
    assert told["since_s"] == 1.0
    assert told["totals"]["requests"] == 301
    assert told["totals"]["outcomes"] == {"ok": 150, "error": 150, "cancelled": 1}
    assert told["totals"]["fallbacks"] == 1
    assert told["totals"]["cost_usd"] == pytest.approx(602.0)
    assert told["totals"]["duration_ms"] == {"p50": 151.0, "p95": 286.0}
    assert len(told["requests"]) == 100
    assert [r["at_s"] for r in told["requests"][:2]] == [301.0, 300.0]


def test_savings_are_summed_with_the_interval_of_their_mean() -> None:
    differences = [((3.0, 0.1), (-1.0, -0.2), (None, 0.0)), ((1.0, 0.3), (-1.0, -0.2), (None, 0.0))]
    rows = [row(differences=d) for d in differences] + [row(differences=None)]
    best, cheapest, random = traffic_document(rows, tells_keys=False)["baselines"]
    assert (best["baseline"], best["compared"]) == ("always_best", 2)
    # Two values 3 and 1: standard deviation √2, of the sum √2·√2 = 2.
    assert best["cost_usd"] == pytest.approx({"value": 4.0, "low": 4 - 3.92, "high": 4 + 3.92})
    assert best["quality"] == pytest.approx({"value": 0.2, "low": 0.2 - 0.196, "high": 0.2 + 0.196})
    assert cheapest["cost_usd"] == pytest.approx({"value": -2.0, "low": -2.0, "high": -2.0})
    assert random["cost_usd"] is None, "a price is unknown"
    assert random["quality"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_one_comparison_has_no_interval() -> None:
    rows = [row(differences=((1.0, 0.1), (0.0, 0.0), (0.5, 0.0)))]
    best = traffic_document(rows, tells_keys=False)["baselines"][0]
    assert best["cost_usd"] == {"value": 1.0, "low": None, "high": None}


def test_whose_a_request_was_is_told_to_operators_alone() -> None:
    assert traffic_document([row()], tells_keys=True)["requests"][0]["key"] == "anonymous"
    assert "anonymous" not in str(traffic_document([row()], tells_keys=False))
