"""The experiment as a figure and as a table in Markdown."""

from __future__ import annotations

from html import escape
from math import isnan

from router_models.evaluation.bootstrap import Interval
from router_models.experts.experiment import Experiment, Point

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 24, 52
_ROUTER, _ORACLE, _MEMBER = "#aa3377", "#228833", "#4477aa"


def draw_figure(experiment: Experiment) -> str:
    """Draw loss against size as a standalone SVG: the router and the oracle as λ grows, and every
    member alone."""
    curves = [*experiment.router_curve, *experiment.oracle_curve]
    plane = _Plane([*curves, *experiment.members])
    parts = [plane.axes()]
    for points, colour, name in (
        (experiment.oracle_curve, _ORACLE, "oracle"),
        (experiment.router_curve, _ROUTER, "router, λ from 0 (right) up"),
    ):
        path = " ".join("{:.1f},{:.1f}".format(*plane.place(p)) for p in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )
        x, y = plane.place(min(points, key=lambda p: p.size_mb))
        parts.append(f'<text x="{x + 10:.0f}" y="{y + 4:.0f}" fill="{colour}">{name}</text>')
    for member in experiment.members:
        x, y = plane.place(member)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_MEMBER}"/>')
        parts.append(
            f'<text x="{x - 8:.0f}" y="{y + 4:.0f}" text-anchor="end" fill="#444">'
            f"{escape(_short(member.name))}</text>"
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">'
        "<title>Mean loss against mean size of the chosen expert</title>"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def write_table(experiment: Experiment) -> str:
    """Write one row per way of choosing, in Markdown."""
    lines = [
        "| choice | optimal selection | mean loss | gap closed | mean size, MB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.policy} | {_percent(row.optimal)} | {_number(row.mean_loss)} | "
        f"{_percent(row.gap_closed)} | {row.mean_size_mb:.1f} |"
        for row in experiment.rows
    ]
    return "\n".join(lines) + "\n"


class _Plane:
    """Size to the right, loss upwards, with room around the points."""

    def __init__(self, points: list[Point]) -> None:
        sizes, losses = [p.size_mb for p in points], [p.loss for p in points]
        self._x = (min(sizes) - 2, max(sizes) + 2)
        self._y = (min(losses) - 0.05, max(losses) + 0.05)

    def place(self, point: Point) -> tuple[float, float]:
        across = (point.size_mb - self._x[0]) / (self._x[1] - self._x[0])
        up = (point.loss - self._y[0]) / (self._y[1] - self._y[0])
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    def axes(self) -> str:
        parts = []
        for tick in range(int(self._x[0]) // 5 * 5 + 5, int(self._x[1]) + 1, 5):
            x = self.place(Point("", tick, self._y[0]))[0]
            parts.append(_line(x, _HEIGHT - _BOTTOM, x, _TOP))
            parts.append(_label(x, _HEIGHT - _BOTTOM + 18, str(tick), "middle"))
        step = 0.2 if self._y[1] - self._y[0] < 2 else 0.5
        tick_count = int(self._y[1] / step)
        for number in range(int(self._y[0] / step) + 1, tick_count + 1):
            y = self.place(Point("", self._x[0], number * step))[1]
            parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y))
            parts.append(_label(_LEFT - 8, y + 4, f"{number * step:.1f}", "end"))
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(_label(middle, _HEIGHT - 12, "mean size of the chosen expert, MB", "middle"))
        parts.append(_label(_LEFT, 14, "mean loss, nats per token", "start"))
        return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#444">{text}</text>'


def _short(model: str) -> str:
    return model.removeprefix("smollm2-135m").removeprefix("-") or "base"


def _percent(interval: Interval) -> str:
    if isnan(interval.value):
        return "–"
    return f"{interval.value:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _number(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
