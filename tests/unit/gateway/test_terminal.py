"""What `thalamus route` draws: quality upwards, cost to the right; nothing where neither tells."""

from __future__ import annotations

from typing import Any

from gateway.terminal import plot_front


def candidate(model: str, quality: float, cost_usd: float | None) -> dict[str, Any]:
    return {
        "model": model,
        "predicted_quality": quality,
        "predicted_cost_usd": cost_usd,
        "on_pareto_front": model != "dear",
    }


def test_each_model_stands_where_its_quality_and_cost_put_it() -> None:
    plot = plot_front(
        [candidate("best", 0.9, 0.03), candidate("cheap", 0.5, 0.01), candidate("dear", 0.6, 0.03)],
        "best",
    )
    assert plot[0].startswith("0.900 ┤")
    assert plot[0].endswith("●")
    assert plot[9].startswith("0.500 ┤○")
    assert [line for line in plot[1:9] if line.endswith("·")], "who is not on the front"
    assert plot[-1].split() == ["$0.010000", "cost", "$0.030000"]


def test_where_prices_tell_nothing_apart_there_is_no_plot() -> None:
    free = [candidate("a", 0.9, 0.0), candidate("b", 0.5, 0.0)]
    assert plot_front(free, "a") == ["(all cost $0.000000: nothing to plot quality against)"]
    assert plot_front([candidate("a", 0.9, None)], "a") == ["(no prices known: nothing to plot)"]
