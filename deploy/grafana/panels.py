"""Panels in the house's manner: one line each where a dashboard is declared."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    table,
    timeseries,
    xychart,
)
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
REFRESH = "10s"
#: What the variable of each board selects.
MODEL = 'model=~"$model"'


@dataclass(frozen=True)
class Query:
    """A PromQL expression and how its series are called."""

    expr: str
    legend: str = ""


def rate(metric: str, *by: str, match: str = "") -> str:
    """Events a second, summed over all but the labels in ``by``."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate(thalamus_{metric}{{{match}}}[$__rate_interval]))"


def quantile(q: float, metric: str, *by: str, match: str = "") -> str:
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', 'le', *by, match=match)})"


def quantiles(metric: str, match: str = "") -> tuple[Query, ...]:
    return tuple(
        Query(quantile(q, metric, match=match), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)
    )


def _target(query: Query, letter: str, *, instant: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().datasource(SOURCE).expr(query.expr).ref_id(letter)
    target = target.legend_format(query.legend or "__auto")
    return target.instant().format("table") if instant else target.range()


def _letters(queries: tuple[Query, ...]) -> list[tuple[str, Query]]:
    return [(chr(ord("A") + i), query) for i, query in enumerate(queries)]


def lines(title: str, unit: str, *queries: Query, text: str = "", span: int = 12) -> object:
    panel = timeseries.Panel().title(title).unit(unit).description(text).datasource(SOURCE)
    panel = panel.span(span).height(8).fill_opacity(8).axis_soft_min(0)
    panel = panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .placement(shapes.LegendPlacement.BOTTOM)
        .display_mode(shapes.LegendDisplayMode.LIST)
    )
    for letter, query in _letters(queries):
        panel = panel.with_target(_target(query, letter))
    return panel


def number(
    title: str,
    unit: str,
    expr: str,
    text: str = "",
    colours: dict[float, str] | None = None,
    span: int = 4,
) -> object:
    """One large figure; ``colours`` gives the colour from each value upwards, lowest first."""
    panel = stat.Panel().title(title).unit(unit).description(text).datasource(SOURCE)
    panel = panel.span(span).height(4).with_target(_target(Query(expr), "A"))
    if colours is None:
        return panel
    steps = [
        models.Threshold(value=value if i else None, color=colour)
        for i, (value, colour) in enumerate(colours.items())
    ]
    scale = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    return panel.thresholds(scale).color_mode(shapes.BigValueColorMode.BACKGROUND)


def bars(title: str, unit: str, query: Query, text: str = "", span: int = 12) -> object:
    panel = bargauge.Panel().title(title).unit(unit).description(text).datasource(SOURCE)
    return panel.span(span).height(8).with_target(_target(query, "A"))


def _joined(panel: object, by: str, queries: tuple[Query, ...]) -> object:
    for letter, query in _letters(queries):
        panel = panel.with_target(_target(query, letter, instant=True))
    join = models.DataTransformerConfig(
        id_val="joinByField", options={"byField": by, "mode": "outer"}
    )
    hide = {"Time": True} | {f"Time {i}": True for i in range(1, len(queries) + 1)}
    renamed = {f"Value #{letter}": query.legend for letter, query in _letters(queries)}
    tidy = models.DataTransformerConfig(
        id_val="organize", options={"excludeByName": hide, "renameByName": renamed}
    )
    return panel.with_transformation(join).with_transformation(tidy)


def rows(title: str, by: str, *queries: Query, text: str = "") -> object:
    """A table with a row for each value of the label ``by`` and a column for each query."""
    panel = table.Panel().title(title).description(text).datasource(SOURCE).span(12).height(8)
    return _joined(panel, by, queries)


def scatter(title: str, by: str, x: Query, y: Query, text: str = "") -> object:
    """A point for each value of the label ``by``."""
    panel = xychart.Panel().title(title).description(text).datasource(SOURCE).span(12).height(8)
    return _joined(panel, by, (x, y))


def _variable(name: str, metric: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .datasource(SOURCE)
        .query(f"label_values(thalamus_{metric}, {name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
    )


def board(uid: str, title: str, text: str, sections: dict[str, list[object]]) -> models.Dashboard:
    made = (
        dashboard.Dashboard(f"Thalamus / {title}")
        .uid(f"thalamus-{uid}")
        .description(text)
        .tags(["thalamus"])
        .refresh(REFRESH)
        .time("now-1h", "now")
        .timezone("browser")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Thalamus")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["thalamus"])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(_variable("model", "predicted_quality_count"))
        .with_variable(_variable("backend", "backend_up"))
    )
    for name, panels in sections.items():
        made = made.with_row(dashboard.Row(name))
        for panel in panels:
            made = made.with_panel(panel)
    built = made.build()
    # Links to a panel and who compares versions go by its number.
    for at, panel in enumerate(built.panels, 1):
        panel.id_val = at
    return built
