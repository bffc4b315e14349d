"""An evaluation as tables in the terminal."""

from __future__ import annotations

from math import isnan

from rich.box import SIMPLE_HEAD
from rich.table import Table

from router_models.evaluation.bootstrap import Interval
from router_models.evaluation.report import EvaluationReport

#: Models whose share of traffic a row names.
_TOP_TRAFFIC = 3


def policy_table(report: EvaluationReport) -> Table:
    """Tabulate the router beside every baseline."""
    table = Table(
        title=f"{report.prompts} prompts, loss in {report.loss_unit}",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        caption=f"95 % bootstrap intervals; best single: {report.best_single}, "
        f"chosen on {report.best_single_from}",
    )
    table.add_column("policy", no_wrap=True)
    for name in ("score", "loss", "below best single", "optimal", "gap closed"):
        table.add_column(name, justify="right")
    for row in report.policies:
        table.add_row(
            row.policy,
            f"{row.mean_score.value:.4f}",
            f"{row.mean_loss.value:.4f}",
            number(row.below_best_single),
            percent(row.optimal_strict),
            short_percent(row.gap_closed),
        )
    return table


def task_table(report: EvaluationReport) -> Table:
    """Tabulate what the router does on every task."""
    table = Table(
        title="By task",
        box=SIMPLE_HEAD,
        caption="picks best: of all prompts; specialist: where it is the best",
    )
    table.add_column("task", no_wrap=True)
    for name in ("prompts", "picks best", "picks specialist", "loss"):
        table.add_column(name, justify="right")
    table.add_column("traffic")
    for row in report.tasks:
        table.add_row(
            row.task,
            str(row.prompts),
            short_percent(row.picks_optimal),
            short_percent(row.picks_specialist),
            f"{row.mean_loss.value:.4f}",
            traffic_of(row.traffic),
        )
    return table


def pair_table(report: EvaluationReport) -> Table | None:
    """Tabulate RouteLLM's metrics; None unless there are two models."""
    if report.pair is None:
        return None
    table = Table(title=f"{report.pair.strong} over {report.pair.weak}")
    for name in ("APGR", "CPT(50 %)", "CPT(80 %)"):
        table.add_column(name, justify="right")
    pair = report.pair
    table.add_row(number(pair.apgr), percent(pair.cpt50), percent(pair.cpt80))
    return table


def number(interval: Interval) -> str:
    """Write a value with its interval, or a dash where it is not defined."""
    if isnan(interval.value):
        return "–"
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def percent(interval: Interval) -> str:
    """Write a share with its interval in percent, or a dash where it is not defined."""
    if isnan(interval.value):
        return "–"
    return f"{interval.value:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def short_percent(interval: Interval) -> str:
    """Write a share in percent without its interval, or a dash where it is not defined."""
    return "–" if isnan(interval.value) else f"{interval.value:.1%}"


def traffic_of(shares: dict[str, float]) -> str:
    """Name the models that get most of the prompts."""
    top = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:_TOP_TRAFFIC]
    return ", ".join(f"{model} {share:.0%}" for model, share in top if share > 0)
