"""A decision for the terminal: a table of candidates and a small plot of the Pareto front."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

PLOT_WIDTH = 56
PLOT_HEIGHT = 10


def print_decision(decision: dict[str, Any], console: Console | None = None) -> None:
    """Print what ``POST /v1/route`` answered."""
    console = console or Console()
    candidates = decision["candidates"]
    table = Table(title="Candidates", title_justify="left")
    for heading in ("model", "quality", "interval", "cost $", "tokens", "verdict"):
        table.add_column(
            heading, overflow="fold", justify="left" if heading in {"model", "verdict"} else "right"
        )
    for c in sorted(candidates, key=lambda c: -c["predicted_quality"]):
        low, high = c["quality_interval"]
        chosen = c["model"] == decision["chosen"]
        table.add_row(
            c["model"],
            f"{c['predicted_quality']:.3f}",
            f"{low:.3f}–{high:.3f}",
            "?" if c["predicted_cost_usd"] is None else f"{c['predicted_cost_usd']:.6f}",
            f"{c['predicted_output_tokens']:.0f}",
            _verdict(c, is_chosen=chosen),
            style="bold" if chosen else None,
        )
    console.print(table)
    for line in plot_front(candidates, decision["chosen"]):
        console.print(line, highlight=False)
    console.print(f"\n[bold]{decision['chosen']}[/bold]: {decision['explanation']}")
    for warning in decision["warnings"]:
        console.print(f"note: {warning}")
    console.print(f"decided in {decision['overhead_ms']:.2f} ms")


def _verdict(candidate: dict[str, Any], *, is_chosen: bool) -> str:
    if is_chosen:
        return "chosen"
    if candidate["violated"]:
        return "breaks " + ", ".join(candidate["violated"])
    return "on the front" if candidate["on_pareto_front"] else ""


def plot_front(candidates: list[dict[str, Any]], chosen: str) -> list[str]:
    """Lines of a scatter plot, quality upwards, cost to the right.

    ``●`` is the chosen model, ``○`` one on the Pareto front, ``·`` any other. Models without a price
    are left out.
    """
    known = [c for c in candidates if c["predicted_cost_usd"] is not None]
    if not known:
        return ["(no prices known: nothing to plot)"]
    costs = [c["predicted_cost_usd"] for c in known]
    if len(known) > 1 and min(costs) == max(costs):
        return [f"(all cost ${costs[0]:.6f}: nothing to plot quality against)"]
    qualities = [c["predicted_quality"] for c in known]
    grid = [[" "] * PLOT_WIDTH for _ in range(PLOT_HEIGHT)]
    for rank in ("·", "○", "●"):  # the later drawn stays on top
        for c, cost, quality in zip(known, costs, qualities, strict=True):
            if _mark(c, chosen) == rank:
                column = _place(cost, costs, PLOT_WIDTH)
                row = PLOT_HEIGHT - 1 - _place(quality, qualities, PLOT_HEIGHT)
                grid[row][column] = rank
    lines = [f"{max(qualities):.3f} ┤{''.join(grid[0])}"]
    lines += [f"      │{''.join(row)}" for row in grid[1:-1]]
    lines.append(f"{min(qualities):.3f} ┤{''.join(grid[-1])}")
    lines.append("      └" + "─" * PLOT_WIDTH)
    lines.append(f"       ${min(costs):.6f}{'cost':^34}${max(costs):.6f}")
    return lines


def _mark(candidate: dict[str, Any], chosen: str) -> str:
    if candidate["model"] == chosen:
        return "●"
    return "○" if candidate["on_pareto_front"] else "·"


def _place(value: float, values: list[float], cells: int) -> int:
    low, high = min(values), max(values)
    return 0 if high == low else round((value - low) / (high - low) * (cells - 1))
