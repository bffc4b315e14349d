"""An evaluation as tables in the terminal."""

from __future__ import annotations

from math import isnan

from rich.table import Table

from router_models.evaluation.bootstrap import Interval
from router_models.evaluation.report import EvaluationReport

#: Models whose share of traffic a row names.
_TOP_TRAFFIC = 3


def policy_table(report: EvaluationReport) -> Table:
    """Tabulate the router beside every baseline."""
    table = Table(
        title=f"{report.prompts} prompts, loss in {report.loss_unit}",
        caption=f"95 % bootstrap intervals; best single: {report.best_single}, "
        f"chosen on {report.best_single_from}",
    )
    table.add_column("policy")
    for name in ("mean score", "mean loss", "below best single", "optimal", "gap closed", "regret"):
        table.add_column(name, justify="right")
    for row in report.policies:
        table.add_row(
            row.policy,
            number(row.mean_score),
            number(row.mean_loss),
            number(row.below_best_single),
            percent(row.optimal_strict),
            percent(row.gap_closed),
            number(row.regret),
        )
    return table


def task_table(report: EvaluationReport) -> Table:
    """Tabulate what the router does on every task."""
    table = Table(title="By task", caption="specialist: the best model on average on that task")
    for name in ("task", "specialist"):
        table.add_column(name)
    for name in ("prompts", "picks the best model", "picks specialist where best", "mean loss"):
        table.add_column(name, justify="right")
    table.add_column("traffic")
    for row in report.tasks:
        table.add_row(
            row.task,
            row.specialist,
            str(row.prompts),
            percent(row.picks_optimal),
            percent(row.picks_specialist),
            number(row.mean_loss),
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
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def traffic_of(shares: dict[str, float]) -> str:
    """Name the models that get most of the prompts."""
    top = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:_TOP_TRAFFIC]
    return ", ".join(f"{model} {share:.0%}" for model, share in top if share > 0)
