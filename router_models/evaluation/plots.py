"""Small plots as inline SVG, drawn with the page's own text colour. Every label is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import isfinite

from router_models.evaluation.bootstrap import Interval

PALETTE = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#bbbbbb",
    "#997700",
    "#004488",
    "#bb5566",
)

_ROW = 26
_LABEL = 190
_WIDTH = 720
_PLOT_HEIGHT = 320


def interval_plot(rows: Sequence[tuple[str, Interval]], unit: str) -> str:
    """Draw one dot with its interval per row, on one axis."""
    finite = [(name, i) for name, i in rows if isfinite(i.low) and isfinite(i.high)]
    if not finite:
        return ""
    low = min(i.low for _, i in finite)
    span = (max(i.high for _, i in finite) - low) or 1.0

    def x(value: float) -> float:
        return _LABEL + (value - low) / span * (_WIDTH - _LABEL - 80)

    parts = []
    for row, (name, i) in enumerate(finite):
        y = _ROW * row + 16
        parts.append(_text(_LABEL - 12, y + 4, name, "end"))
        parts.append(_line(x(i.low), y, x(i.high), y, PALETTE[0], 3))
        parts.append(_dot(x(i.value), y, PALETTE[1 if row == 0 else 0], 5))
        parts.append(_text(x(i.high) + 8, y + 4, f"{i.value:.4g}", "start"))
    height = _ROW * len(finite) + 24
    parts.append(_text(_LABEL, height - 4, f"{low:.4g} … {low + span:.4g} {unit}", "start"))
    return _svg(_WIDTH, height, parts)


def share_plot(rows: Sequence[tuple[str, Mapping[str, float]]], models: Sequence[str]) -> str:
    """Draw one bar per row, divided among the models."""
    parts = []
    for row, (name, shares) in enumerate(rows):
        y, x = _ROW * row + 6, float(_LABEL)
        parts.append(_text(_LABEL - 12, y + 13, name, "end"))
        for i, model in enumerate(models):
            width = shares.get(model, 0.0) * (_WIDTH - _LABEL - 20)
            if width > 0:
                title = f"{model}: {shares[model]:.1%}"
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="18" '
                    f'fill="{_colour(i)}"><title>{escape(title)}</title></rect>'
                )
            x += width
    return _svg(_WIDTH, _ROW * len(rows) + 8, parts)


def calibration_plot(name: str, bins: Sequence[tuple[float, float, int]]) -> str:
    """Draw mean truth against mean prediction, with dots as large as their bins are full."""
    side, pad = 170, 22
    total = sum(count for _, _, count in bins) or 1

    def at(value: float) -> float:
        return pad + value * (side - 2 * pad)

    parts = [
        _line(at(0), side - at(0), at(1), side - at(1), "currentColor", 0.5),
        _line(at(0), side - at(0), at(1), side - at(0), "currentColor", 1),
        _line(at(0), side - at(0), at(0), side - at(1), "currentColor", 1),
    ]
    for predicted, truth, count in bins:
        radius = 2 + 9 * (count / total) ** 0.5
        parts.append(_dot(at(predicted), side - at(truth), PALETTE[0], radius))
    parts.append(_text(side / 2, side - 4, name[:28], "middle"))
    return _svg(side, side, parts)


def frontier_plot(
    curve: Sequence[tuple[float, float]],
    singles: Sequence[tuple[str, float, float]],
    baselines: Sequence[tuple[str, float, float]],
    unit: str,
) -> str:
    """Draw score against cost: a line for the router, dots for single models, rings for baselines."""
    points = [*curve, *((x, y) for _, x, y in (*singles, *baselines))]
    place = _scale(points)
    parts = [_path(sorted(curve), place, PALETTE[1]), *_ends(points, f"cost, {unit}", "mean score")]
    marks = [(*mark, PALETTE[0], "currentColor") for mark in singles]
    marks += [(*mark, "none", PALETTE[2]) for mark in baselines]
    taken: list[tuple[float, float]] = []
    for name, x, y, fill, stroke in marks:
        px, py = place(x, y)
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{fill}" stroke="{stroke}"/>')
        # A name that would lie on another stands below it.
        at = py + 4
        while any(abs(at - other) < 11 and abs(px - left) < 130 for left, other in taken):
            at += 11
        taken.append((px, at))
        parts.append(_text(px + 7, at, name, "start"))
    return _svg(_WIDTH, _PLOT_HEIGHT + 40, parts)


def deferral_plot(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]], strong: str) -> str:
    """Draw score against the share of prompts sent to the strong model; the dashes are by chance."""
    points = [point for _, curve in curves for point in curve]
    place = _scale(points)
    first = sorted(curves[0][1])
    chance = _path([first[0], first[-1]], place, "currentColor", dashed=True)
    parts = [chance, *_ends(points, f"share of prompts to {strong}", "mean score")]
    parts += [_path(sorted(curve), place, _colour(i)) for i, (_, curve) in enumerate(curves)]
    return _svg(_WIDTH, _PLOT_HEIGHT, parts)


_Place = Callable[[float, float], tuple[float, float]]


def _scale(points: Sequence[tuple[float, float]]) -> _Place:
    """Return how a point is placed, so that all fit."""
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_low) / ((y_high - y_low) or 1.0)
        return 60 + across * (_WIDTH - 240), _PLOT_HEIGHT - 40 - up * (_PLOT_HEIGHT - 70)

    return place


def _ends(points: Sequence[tuple[float, float]], across: str, up: str) -> list[str]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return [
        _text(60, _PLOT_HEIGHT - 8, f"{across}: {min(xs):.4g} … {max(xs):.4g}", "start"),
        _text(60, 14, f"{up}: {min(ys):.4g} … {max(ys):.4g}", "start"),
    ]


def _path(
    curve: Sequence[tuple[float, float]], place: _Place, colour: str, *, dashed: bool = False
) -> str:
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(x, y) for x, y in curve))
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'


def legend(models: Sequence[str]) -> str:
    """Name the colours of ``share_plot``."""
    return " ".join(
        f'<span class="key"><i style="background:{_colour(i)}"></i>{escape(model)}</span>'
        for i, model in enumerate(models)
    )


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" font-size="12" fill="currentColor">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _dot(x: float, y: float, colour: str, radius: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}"/>'
