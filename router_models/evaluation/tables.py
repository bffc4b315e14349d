"""An evaluation as tables in the terminal."""

from __future__ import annotations

from math import isnan

from rich.box import SIMPLE_HEAD
from rich.table import Table

from router_models.evaluation.bootstrap import Interval
from router_models.evaluation.report import EvaluationReport, Frontier, GadgetRow, Robustness

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
    table = Table(
        title=f"{report.pair.strong} over {report.pair.weak}", box=SIMPLE_HEAD, padding=(0, 1)
    )
    table.add_column("policy", no_wrap=True)
    for name in ("APGR", "CPT(50 %)", "CPT(80 %)"):
        table.add_column(name, justify="right")
    for pair in (report.pair, *report.peer_pairs):
        table.add_row(pair.policy, number(pair.apgr), percent(pair.cpt50), percent(pair.cpt80))
    return table


def calibration_table(report: EvaluationReport) -> Table:
    """Tabulate how far the predicted quality of every model can be believed."""
    table = Table(
        title="Calibration",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        caption="by chance: what a perfect router would show on so many prompts; "
        "inside: groups of 20 like prompts, by their mean score",
    )
    table.add_column("model", no_wrap=True)
    for name in ("prompts", "ECE", "by chance", "Brier", "inside"):
        table.add_column(name, justify="right")
    for row in report.calibration:
        table.add_row(
            row.model,
            str(row.prompts),
            number(row.ece),
            _plain(row.ece_perfect),
            number(row.brier),
            short_percent(row.coverage),
        )
    return table


def frontier_table(report: EvaluationReport) -> Table | None:
    """Tabulate the metrics of quality against cost; None where no prices are known."""
    if report.frontier is None:
        return None
    table = Table(title="Quality against cost", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right")
    for name, value in frontier_rows(report.frontier):
        table.add_row(name, value)
    return table


def frontier_rows(frontier: Frontier) -> list[tuple[str, str]]:
    """Name and write every metric of a frontier."""
    return [
        ("AUDC", number(frontier.audc)),
        ("AUDC up to half the cost", number(frontier.audc_half)),
        ("QNC, % of the best single", number(frontier.qnc_percent)),
        ("cost saved at its score", number(frontier.cost_saved)),
        ("best score above its, as a share", number(frontier.performance_gain)),
        ("AIQ, as in the paper", number(frontier.aiq_paper)),
        ("AIQ of mixing single models", number(frontier.aiq_zero)),
        ("AIQ, as in the code", number(frontier.aiq_code)),
        ("arena score", number(frontier.arena_score)),
        ("optimal selection, cheapest correct", number(frontier.cheapest_correct)),
        ("optimal cost", number(frontier.optimal_cost)),
        ("optimal accuracy", number(frontier.optimal_accuracy)),
        ("IBC, score per USD per 1,000", number(frontier.ibc)),
    ]


def robustness_table(report: EvaluationReport) -> Table | None:
    """Tabulate which choices survive rewriting and tampering; None where nobody asked."""
    if report.robustness is None:
        return None
    table = Table(
        title=f"Choices kept, {report.robustness.prompts} prompts",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        caption="\n".join(gadget_line(row) for row in report.robustness.gadgets),
    )
    table.add_column("variant", no_wrap=True)
    for name in ("best quality", "half to the strong", "loss added"):
        table.add_column(name, justify="right")
    for cells in robustness_rows(report.robustness):
        table.add_row(*cells)
    return table


def robustness_rows(robustness: Robustness) -> list[tuple[str, str, str, str]]:
    """Write the stability of every kind of variant."""
    return [
        (row.kind, percent(row.stable_best), percent(row.stable_gate), number(row.loss_change))
        for row in robustness.variants
    ]


def gadget_line(row: GadgetRow) -> str:
    """Say what prefixes found by search win."""
    where = "best quality" if row.gate == "best" else "half to the strong"
    if not row.kept:
        return f"{where}: every prompt goes to {row.strong} anyway"
    return (
        f"{where}: {row.gadgets} prefixes found by search lift {percent(row.won)} of {row.kept} "
        f"kept prompts to {row.strong}; the worst {row.worst_won:.1%}, random words "
        f"{row.random_won:.1%}"
    )


def _plain(value: float, digits: int = 4) -> str:
    return "–" if isnan(value) else f"{value:.{digits}f}"


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
