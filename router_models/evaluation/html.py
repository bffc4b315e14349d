"""A report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from router_models.evaluation import plots
from router_models.evaluation.report import EvaluationReport, Frontier, PairRow, Robustness
from router_models.evaluation.tables import (
    frontier_rows,
    gadget_line,
    number,
    percent,
    robustness_rows,
    traffic_of,
)

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
div.scroll { overflow-x: auto; }
svg { max-width: 100%; }
.key { margin-right: 1rem; white-space: nowrap; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; }
"""
#: Small plots of calibration; a page with fifty says less than one with twelve.
_MAX_CALIBRATION_PLOTS = 12


def render_page(
    evaluation: EvaluationReport | None, training: Mapping[str, object] | None = None
) -> str:
    """Render an evaluation, what is known of the training, or both."""
    sections = []
    if evaluation is not None:
        sections += [_policies(evaluation), _tasks(evaluation), _calibration(evaluation)]
        if evaluation.pair is not None:
            sections.append(_pair(evaluation.pair, evaluation.peer_pairs))
        if evaluation.frontier is not None:
            sections.append(_frontier(evaluation.frontier))
        elif evaluation.tokens is not None:
            sections.append(_tokens(evaluation.tokens))
        if evaluation.robustness is not None:
            sections.append(_robustness(evaluation.robustness))
    if training is not None:
        sections.append(_training(training))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Router report</title><style>{_STYLE}</style></head><body>"
        f"<h1>Router report</h1>{''.join(sections)}</body></html>\n"
    )


def _policies(report: EvaluationReport) -> str:
    header = ("policy", "mean score", "mean loss", "optimal", "gap closed", "regret")
    rows = [
        (
            row.policy,
            number(row.mean_score),
            number(row.mean_loss),
            percent(row.optimal_strict),
            percent(row.gap_closed),
            number(row.regret),
        )
        for row in report.policies
    ]
    saved = report.policies[0].below_best_single
    plot = plots.interval_plot([(r.policy, r.mean_loss) for r in report.policies], report.loss_unit)
    return (
        f"<h2>Against the baselines</h2><p>{report.prompts} prompts, {len(report.models)} models, "
        f"loss in {escape(report.loss_unit)}, 95 % bootstrap intervals. Router "
        f"{escape(report.router_version)}; best single model {escape(report.best_single)}, chosen "
        f"on {escape(report.best_single_from)}. On the same prompts the router saves "
        f"{number(saved)} of its loss.</p>{plot}{_table(header, rows)}"
    )


def _tasks(report: EvaluationReport) -> str:
    header = (
        "task",
        "prompts",
        "specialist",
        "picks the best",
        "specialist where best",
        "mean loss",
        "best single",
        "specialist alone",
        "traffic",
    )
    rows = [
        (
            row.task,
            str(row.prompts),
            row.specialist,
            percent(row.picks_optimal),
            percent(row.picks_specialist),
            number(row.mean_loss),
            f"{row.best_single_loss:.4f}",
            f"{row.specialist_loss:.4f}",
            traffic_of(row.traffic),
        )
        for row in report.tasks
    ]
    used = [m for m in report.models if any(row.traffic[m] > 0 for row in report.tasks)]
    total = sum(row.prompts for row in report.tasks)
    overall = {m: sum(r.traffic[m] * r.prompts for r in report.tasks) / total for m in used}
    bars = [("all", overall), *((row.task, row.traffic) for row in report.tasks)]
    shares = plots.share_plot(bars, used)
    keys = f"<p>Share of traffic: {plots.legend(used)}</p>"
    return f"<h2>By task</h2>{keys}{shares}{_table(header, rows)}"


def _calibration(report: EvaluationReport) -> str:
    header = ("model", "prompts", "ECE", "ECE by chance", "Brier", "groups inside the interval")
    rows = [
        (
            r.model,
            str(r.prompts),
            number(r.ece),
            f"{r.ece_perfect:.4f}",
            number(r.brier),
            percent(r.coverage),
        )
        for r in report.calibration
    ]
    shown = report.calibration[:_MAX_CALIBRATION_PLOTS]
    drawn = "".join(plots.calibration_plot(r.model, r.bins) for r in shown)
    return f"<h2>Calibration</h2><p>Measured against predicted quality.</p>{drawn}" + _table(
        header, rows
    )


def _pair(pair: PairRow, peers: Sequence[PairRow]) -> str:
    header = ("policy", "APGR", "CPT(50 %)", "as in the code", "CPT(80 %)", "as in the code")
    rows = [
        (
            row.policy,
            number(row.apgr),
            percent(row.cpt50),
            f"{row.cpt50_compat:.1%}",
            percent(row.cpt80),
            f"{row.cpt80_compat:.1%}",
        )
        for row in (pair, *peers)
    ]
    curves = [(row.policy, row.curve) for row in (pair, *peers)]
    plot = plots.deferral_plot(curves, pair.strong)
    keys = plots.legend([name for name, _ in curves])
    title = f"{escape(pair.strong)} over {escape(pair.weak)}"
    return f"<h2>{title}</h2><p>{keys}</p>{plot}{_table(header, rows)}"


def _frontier(frontier: Frontier) -> str:
    rows = frontier_rows(frontier)
    plot = _frontier_plot(frontier, "USD per 1,000 prompts")
    return f"<h2>Score against cost</h2>{plot}{_table(('metric', 'value'), rows)}"


def _tokens(frontier: Frontier) -> str:
    return (
        "<h2>Score against tokens</h2><p>No prices were given, so every token, read or written, costs "
        f"the same.</p>{_frontier_plot(frontier, 'thousand tokens a prompt')}"
    )


def _frontier_plot(frontier: Frontier, unit: str) -> str:
    return plots.frontier_plot(
        [(p.usd_per_1k, p.mean_score) for p in frontier.router],
        [(p.name, p.usd_per_1k, p.mean_score) for p in frontier.singles],
        [(p.name, p.usd_per_1k, p.mean_score) for p in frontier.baselines],
        unit,
    )


def _robustness(robustness: Robustness) -> str:
    header = ("variant", "best quality kept", "half to the strong kept", "loss added")
    rows = robustness_rows(robustness)
    lines = "".join(f"<p>{escape(gadget_line(row))}.</p>" for row in robustness.gadgets)
    return f"<h2>Robustness</h2>{_table(header, rows)}{lines}"


def _training(training: Mapping[str, object]) -> str:
    rows = [(key, str(value)) for key, value in sorted(training.items())]
    return f"<h2>Training</h2>{_table(('what', 'value'), rows)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
