"""Small multiples of curves as one SVG file that reads on a white page and on a dark one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ACROSS = 4
_WIDTH, _HEIGHT = 190, 170
_LEFT, _TOP, _RIGHT, _BOTTOM = 34, 24, 8, 20
_CURVE, _HULL, _DOT = "#cc3311", "#4477aa", "#4477aa"

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A curve, the line that it is held against, and single points."""

    title: str
    curve: Sequence[Point]
    line: Sequence[Point]
    dots: Sequence[Point]


def panels_svg(panels: Sequence[Panel], across: str, up: str) -> str:
    """Draw every panel on axes of its own."""
    rows = -(-len(panels) // _ACROSS)
    width, height = _ACROSS * _WIDTH, rows * _HEIGHT + 22
    parts = [
        f'<g transform="translate({i % _ACROSS * _WIDTH},{i // _ACROSS * _HEIGHT})">{_draw(p)}</g>'
        for i, p in enumerate(panels)
    ]
    note = f"across: {across}; up: {up}; red: λ grows; blue: single models and their best mixture"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="10" fill="#444"><title>{escape(note)}</title>'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}'
        f'<text x="{_LEFT}" y="{height - 6}" font-size="11">{escape(note)}</text></svg>\n'
    )


def _draw(panel: Panel) -> str:
    points = [*panel.curve, *panel.line, *panel.dots]
    (x_low, x_high), (y_low, y_high) = (
        (min(p[axis] for p in points), max(p[axis] for p in points)) for axis in (0, 1)
    )

    def place(point: Point) -> Point:
        x = (point[0] - x_low) / ((x_high - x_low) or 1.0)
        y = (point[1] - y_low) / ((y_high - y_low) or 1.0)
        return (
            _LEFT + x * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM),
        )

    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#bbb"/>',
        f'<text x="{_LEFT}" y="14" font-weight="bold">{escape(panel.title)}</text>',
        f'<text x="{_LEFT - 3}" y="{_TOP + 6}" text-anchor="end">{y_high:.2f}</text>',
        f'<text x="{_LEFT - 3}" y="{bottom}" text-anchor="end">{y_low:.2f}</text>',
        f'<text x="{_LEFT}" y="{bottom + 12}">{x_low:z.2f}</text>',
        f'<text x="{right}" y="{bottom + 12}" text-anchor="end">{x_high:.2f}</text>',
        _path([place(p) for p in panel.line], _HULL, 'stroke-dasharray="3 2"'),
        _path([place(p) for p in panel.curve], _CURVE, 'stroke-width="1.6"'),
    ]
    for x, y in map(place, panel.dots):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{_DOT}"/>')
    return "".join(parts)


def _path(points: Sequence[Point], colour: str, more: str) -> str:
    track = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{track}" fill="none" stroke="{colour}" {more}/>'
