"""The candidates that no other one beats: high quality, low ``cost_usd``, low ``latency_ms``.

It never chooses among them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from policies.types import Candidate

_Point = tuple[float, float, float]


def pareto_front(pool: Sequence[Candidate]) -> set[int]:
    """Find the indices of the non-dominated candidates; exact ties all stay.

    One dominates another when it is at least as good in every dimension and better in one. A
    comparison with an unknown value proves nothing, so cost and latency must be known, or unknown,
    in both: what cannot be shown to be worse stays on the front.
    """
    comparable: dict[tuple[bool, bool], list[tuple[_Point, int]]] = {}
    for index, c in enumerate(pool):
        cost, latency = c.cost_usd, c.latency_ms
        point = (-c.quality, 0.0 if cost is None else cost, 0.0 if latency is None else latency)
        comparable.setdefault((cost is None, latency is None), []).append((point, index))
    front: set[int] = set()
    for points in comparable.values():
        front.update(_sweep(points))
    return front


def _sweep(points: list[tuple[_Point, int]]) -> list[int]:
    """Walk from the best quality down, keeping the stairs of (cost, latency) seen so far.

    On the stairs cost rises and latency falls, so that one bisection tells whether anything of at
    least this quality is at least as cheap and as fast: O(n log n) in place of O(n²).
    """
    points.sort()
    front: list[int] = []
    costs: list[float] = []
    latencies: list[float] = []
    last: _Point | None = None
    for point, index in points:
        if point == last:
            front.append(index)
            continue
        _, cost, latency = point
        step = bisect_right(costs, cost)
        if step and latencies[step - 1] <= latency:
            continue
        front.append(index)
        last = point
        start = end = bisect_left(costs, cost)
        while end < len(costs) and latencies[end] >= latency:
            end += 1
        costs[start:end] = [cost]
        latencies[start:end] = [latency]
    return front
