"""What routing saved, for the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from gateway.ledger.saved import Check, Estimate, Saved


def print_saved(saved: Saved, console: Console | None = None) -> None:
    """Print the alternatives with what the router saved of each, and how far to believe it."""
    console = console or Console()
    left_out = ", ".join(f"{count} {why}" for why, count in sorted(saved.left_out.items()))
    span = ""
    if saved.first_at_s is not None and saved.last_at_s is not None:
        span = f", {_day(saved.first_at_s)} to {_day(saved.last_at_s)}"
    console.print(
        f"{saved.compared} of {saved.decisions} decisions are compared{span}"
        + (f"; left out: {left_out}" if left_out else ""),
        highlight=False,
    )
    console.print(f"paid for all of them: ${saved.paid_usd:.6g}", highlight=False)
    if not saved.compared:
        return
    console.print(_alternatives(saved))
    console.print(_checks("Cost, USD a request", saved.cost_checks, "paid"))
    if saved.quality_checks:
        console.print(_checks("Quality of answers that were scored", saved.quality_checks, "score"))
    else:
        console.print("note: no answer was scored, so the quality is as predicted and no more")
    biased = [c.model for c in saved.quality_checks if _is_certainly_below(c.difference)]
    if biased:
        console.print(
            f"note: scores are below the predictions for {', '.join(biased)}; "
            "the quality above is too high for what these models answered"
        )


def _alternatives(saved: Saved) -> Table:
    percent = f"{saved.confidence:.0%}"
    title = f"The router against doing without, {percent} intervals"
    table = Table(title=title, title_justify="left")
    table.add_column("instead of the router")
    for name in ("requests", "USD a request", "quality", "saved, predicted", "saved, as paid"):
        table.add_column(name, justify="right")
    table.add_column("router's quality is higher by", justify="right")
    table.add_row(
        "(the router)", str(saved.compared), _figure(saved.cost_usd), _figure(saved.quality, 3)
    )
    for other in saved.alternatives:
        table.add_row(
            other.name,
            str(other.requests),
            _figure(other.cost_usd),
            _figure(other.quality, 3),
            _share(other.saved_share),
            _share(other.paid_share),
            _with_interval(other.quality_difference),
        )
    return table


def _checks(title: str, checks: Sequence[Check], realised: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for name in ("answers", "predicted", realised, f"{realised} less predicted"):
        table.add_column(name, justify="right")
    for check in checks:
        figures = (_figure(check.predicted), _figure(check.realised))
        table.add_row(check.model, str(check.answers), *figures, _with_interval(check.difference))
    return table


def _is_certainly_below(estimate: Estimate) -> bool:
    return estimate.high is not None and estimate.high < 0


def _share(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "–"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def _with_interval(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    return f"{_figure(estimate.value)} [{_figure(estimate.low)}, {_figure(estimate.high)}]"


def _figure(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _day(at_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_s))
