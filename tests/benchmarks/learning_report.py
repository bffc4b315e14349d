"""The course of learning as a table in Markdown and as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router_models.evaluation.bootstrap import Interval
    from tests.benchmarks.learning_loop import Course

_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 24, 48
_ROUTER, _ORACLE, _SINGLE = "#aa3377", "#228833", "#4477aa"


def table(course: Course) -> str:
    """One row for every step, then what no router can beat and what needs none."""
    lines = [
        "| requests so far | what `thalamus learn run` said | in force | loss, nats per token | "
        "mean score | picks the best expert |",
        "|---|---|---|---|---|---|",
    ]
    for point in course.points:
        worth = point.worth
        lines.append(
            f"| {point.requests:,} | {point.step} | `{point.version[:6]}` | "
            f"{_shown(worth.loss, 3)} | {_shown(worth.quality, 4)} | "
            f"{100 * worth.optimal.value:.1f} % |"
        )
    bounds = course.bounds
    lines += [
        f"| – | best single expert, `{bounds.single}` | – | {bounds.single_loss:.3f} | "
        f"{bounds.single_quality:.4f} | – |",
        f"| – | oracle, a prompt at a time | – | {bounds.oracle_loss:.3f} | "
        f"{bounds.oracle_quality:.4f} | 100 % |",
    ]
    return "\n".join(lines) + f"\n\nOn misnamed outcomes it said: *{course.poisoned}*\n"


def draw(course: Course) -> str:
    """Loss of what is in force against requests, with intervals, as a standalone SVG."""
    bounds, points = course.bounds, course.points
    most = max(p.requests for p in points) or 1
    ends = [(p.worth.loss.low, p.worth.loss.high) for p in points]
    low = min(bounds.oracle_loss, *(low for low, _ in ends)) - 0.02
    high = max(bounds.single_loss, *(high for _, high in ends)) + 0.02

    def x(requests: float) -> float:
        return _LEFT + requests / most * (_WIDTH - _LEFT - _RIGHT)

    def y(loss: float) -> float:
        return _TOP + (high - loss) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    right = _WIDTH - _RIGHT
    parts = [
        f'<line x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{_HEIGHT - _BOTTOM}" stroke="#888"/>',
        f'<line x1="{_LEFT}" y1="{_HEIGHT - _BOTTOM}" x2="{right}" y2="{_HEIGHT - _BOTTOM}" '
        'stroke="#888"/>',
    ]
    step = (high - low) / 4
    for tick in range(5):
        value = low + tick * step
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y(value) + 4:.0f}" text-anchor="end">{value:.2f}</text>'
        )
    for point in points:
        parts.append(
            f'<text x="{x(point.requests):.0f}" y="{_HEIGHT - _BOTTOM + 18}" '
            f'text-anchor="middle">{point.requests:,}</text>'
        )
    for loss, colour, name in (
        (bounds.oracle_loss, _ORACLE, "oracle"),
        (bounds.single_loss, _SINGLE, "best single expert"),
    ):
        parts.append(
            f'<line x1="{_LEFT}" y1="{y(loss):.1f}" x2="{right}" y2="{y(loss):.1f}" '
            f'stroke="{colour}" stroke-dasharray="6 4"/>'
            f'<text x="{right + 8}" y="{y(loss) + 4:.0f}" fill="{colour}">{name}</text>'
        )
    line = " ".join(f"{x(p.requests):.1f},{y(p.worth.loss.value):.1f}" for p in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_ROUTER}" stroke-width="2.5"/>')
    for point in points:
        at, loss = x(point.requests), point.worth.loss
        parts.append(
            f'<line x1="{at:.1f}" y1="{y(loss.low):.1f}" x2="{at:.1f}" y2="{y(loss.high):.1f}" '
            f'stroke="{_ROUTER}"/>'
            f'<circle cx="{at:.1f}" cy="{y(loss.value):.1f}" r="4" fill="{_ROUTER}"/>'
        )
    parts.append(
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "scored requests</text>"
        f'<text x="{_LEFT}" y="{_TOP - 8}">loss of the router in force, nats per token</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">'
        "<title>Loss of the router in force while it learns from traffic</title>"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _shown(interval: Interval, digits: int) -> str:
    value, low, high = interval.value, interval.low, interval.high
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
