"""Metrics of routing as pure functions of arrays; names and definitions are the field's own.

Shapes: ``losses``, ``scores`` and ``costs`` are (prompts, models), NaN where nothing was
measured.
A *hit* is a (prompts, models) array of 0 and 1: whether picking that model counts. A metric with
several definitions in the literature has one function for each.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

ECE_BINS = 15
#: RouterArena's bounds of cost, dollars per 1,000 queries, and its weight of cost.
_ARENA_COST = (0.0044, 200.0)
_ARENA_BETA = 0.1


def hits_strict(losses: Matrix, costs: Matrix | None = None) -> Matrix:
    """Tryage (arXiv 2308.11601): argmin of the true loss alone; ties by cost, then by order."""
    if costs is None:
        best = np.nanargmin(losses, axis=1)
    else:
        lowest = np.nanmin(losses, axis=1, keepdims=True)
        best = np.argmin(np.where(losses == lowest, np.nan_to_num(costs, nan=np.inf), np.inf), 1)
    hits = np.zeros_like(losses)
    hits[np.arange(len(losses)), best] = 1.0
    return hits


def hits_any_tied(losses: Matrix) -> Matrix:
    """Tryage, kindly: every model that shares the lowest true loss."""
    return np.asarray((losses == np.nanmin(losses, axis=1, keepdims=True)).astype(np.float64))


def hits_cheapest_correct(scores: Matrix, costs: Matrix, correct: float = 0.5) -> Matrix:
    """RouterArena (arXiv 2510.00202): the cheapest model that scores at least ``correct``.

    A prompt that no model answers is a row of NaN: it does not count.
    """
    right = np.nan_to_num(scores, nan=-1.0) >= correct
    hits = hits_strict(np.where(right, costs, np.inf))
    hits[~right.any(axis=1)] = np.nan
    return hits


def hits_argmax_score(scores: Matrix) -> Matrix:
    """RouterDC (arXiv 2409.19886): the first of the models with the highest score."""
    return hits_strict(-scores)


def regret(losses: Matrix, picks: Matrix) -> Vector:
    """Loss of the pick above the loss of the best model, (prompts,)."""
    return np.asarray(expected(losses, picks) - np.nanmin(losses, axis=1))


def expected(values: Matrix, picks: Matrix) -> Vector:
    """Value of the picked model of each prompt, (prompts,); picks may be probabilities."""
    return np.asarray((np.where(picks > 0, values, 0.0) * picks).sum(axis=1))


def recovered_gap(accuracy: float, weak: float, strong: float) -> float:
    """RouteLLM's PGR (arXiv 2406.18665): share of the weak-strong gap recovered; NaN without one."""
    return (accuracy - weak) / (strong - weak) if strong != weak else float("nan")


def deferral_curve(margin: Vector, weak: Vector, strong: Vector) -> tuple[Vector, Vector]:
    """Accuracy against the share of prompts sent to the strong model, at ten quantiles.

    ``margin`` (prompts,) is how much the router prefers the strong model; ``weak`` and ``strong``
    are the scores. Thresholds are the deciles, as RouteLLM takes them; where deciles coincide,
    prompts are ranked and equal margins count by their mean. Returns shares and accuracies, (11,).
    """
    edges = np.quantile(margin, np.linspace(0.0, 1.0, 11))
    if len(np.unique(edges)) < len(edges):
        return _ranked_curve(margin, weak, strong)
    chosen = margin >= edges[:, None]
    chosen[-1] = margin > edges[-1]
    shares = chosen.mean(axis=1)
    accuracies = np.where(chosen, strong, weak).mean(axis=1)
    return shares[::-1], accuracies[::-1]


def apgr(shares: Vector, accuracies: Vector, weak: float, strong: float) -> float:
    """Average PGR: area under the deferral curve above weak, as a share of the gap."""
    width = float(shares[-1] - shares[0])
    area = float(np.trapezoid(accuracies, shares))
    return recovered_gap(area / width, weak, strong) if width else float("nan")


def cpt(
    shares: Vector,
    accuracies: Vector,
    target: float,
    *,
    weak: float,
    strong: float,
    variant: Literal["compat", "first_crossing"] = "first_crossing",
) -> float:
    """CPT: the share of calls to the strong model at which PGR reaches ``target``.

    ``first_crossing`` is the paper's minimum; NaN when it is never reached. ``compat`` is the
    published code's interpolation, which means something only where the curve rises throughout.
    """
    wanted = weak + target * (strong - weak)
    if variant == "compat":
        return float(np.interp(wanted, accuracies, shares))
    reached = np.flatnonzero(accuracies >= wanted)
    if not reached.size:
        return float("nan")
    i = int(reached[0])
    if i == 0:
        return float(shares[0])
    part = (wanted - accuracies[i - 1]) / (accuracies[i] - accuracies[i - 1])
    return float(shares[i - 1] + part * (shares[i] - shares[i - 1]))


def _ranked_curve(margin: Vector, weak: Vector, strong: Vector) -> tuple[Vector, Vector]:
    _, group = np.unique(-margin, return_inverse=True)
    gain = np.bincount(group, weights=strong - weak) / np.bincount(group)
    gains = np.concatenate([[0.0], np.cumsum(gain[np.sort(group)])])
    shares = np.linspace(0.0, 1.0, 11)
    at = np.interp(shares * len(margin), np.arange(len(margin) + 1), gains)
    return shares, weak.mean() + at / len(margin)


def upper_hull(costs: Vector, qualities: Vector) -> tuple[Vector, Vector]:
    """Non-decreasing concave hull (RouterBench, arXiv 2403.12031), at its corners, by cost."""
    order = np.lexsort((-qualities, costs))
    hull: list[tuple[float, float]] = []
    for c, q in zip(costs[order].tolist(), qualities[order].tolist(), strict=True):
        if hull and (q <= hull[-1][1] or c == hull[-1][0]):
            continue
        while len(hull) > 1 and _is_below(hull[-2], hull[-1], (c, q)):
            hull.pop()
        hull.append((c, q))
    corners = np.array(hull)
    return corners[:, 0], corners[:, 1]


def aiq(
    costs: Vector,
    qualities: Vector,
    *,
    max_cost: float | None = None,
    variant: Literal["paper", "code"] = "paper",
) -> float:
    """AIQ (RouterBench): area under the hull, flat up to ``max_cost`` (default: the last point's).

    ``paper`` divides by the range of costs, the published ``code`` by the highest cost.
    """
    highest = float(costs.max()) if max_cost is None else max_cost
    x, y = upper_hull(costs, qualities)
    x, y = np.append(x, highest), np.append(y, y[-1])
    span = highest - float(x[0]) if variant == "paper" else highest
    return float(np.trapezoid(y, x)) / span if span > 0 else float(y[-1])


def audc(costs: Vector, qualities: Vector, max_cost: float, share: float = 1.0) -> float:
    """Area under the deferral curve (UniRoute, arXiv 2502.08773), costs scaled by ``max_cost``.

    With a ``share`` below 1 it ends there and is divided by it: UniRoute's Area(50 %) is 0.5.

    The curve is the running best quality, flat to the left of the cheapest point and to the right
    of the dearest: the paper leaves the ends open.
    """
    order = np.lexsort((-qualities, costs))
    x, y = costs[order] / max_cost, np.maximum.accumulate(qualities[order])
    x, y = np.concatenate([[0.0], x, [1.0]]), np.concatenate([y[:1], y, y[-1:]])
    end = float(np.interp(share, x, y)) if share < 1.0 else float(y[x <= 1.0][-1])
    inside = x <= share
    x, y = np.append(x[inside], share), np.append(y[inside], end)
    return float(np.trapezoid(y, x)) / share


def qnc(costs: Vector, qualities: Vector, best_quality: float, best_cost: float) -> float:
    """Quality-neutral cost (UniRoute): least cost that matches the best single model.

    In percent of that model's cost; NaN when it is never matched.
    """
    matching = costs[qualities >= best_quality]
    return float(matching.min()) / best_cost * 100 if matching.size else float("nan")


def arena_score(accuracy: float, usd_per_1k: float) -> float:
    """RouterArena's score in percent; its cost term is not clamped, as in the published code."""
    low, high = np.log2(_ARENA_COST)
    cheapness = float((high - np.log2(usd_per_1k)) / (high - low))
    weighted = _ARENA_BETA * accuracy + cheapness
    return 100 * (1 + _ARENA_BETA) * accuracy * cheapness / weighted


def optimal_cost_shares(
    scores: Matrix, costs: Matrix, picks: Matrix, correct: float = 0.5
) -> Vector:
    """RouterArena: cost of the cheapest correct model as a share of what was spent, (prompts,).

    NaN where no model answers: such a prompt does not count.
    """
    right = np.nan_to_num(scores, nan=-1.0) >= correct
    least = np.where(right, costs, np.inf).min(axis=1)
    return np.where(np.isfinite(least), least, np.nan) / expected(costs, picks)


def optimal_cost(scores: Matrix, costs: Matrix, picks: Matrix, correct: float = 0.5) -> float:
    """RouterArena: ``optimal_cost_shares`` on average; NaN where no prompt counts."""
    shares = optimal_cost_shares(scores, costs, picks, correct)
    return float("nan") if np.isnan(shares).all() else float(np.nanmean(shares))


def optimal_accuracy(scores: Matrix, picks: Matrix) -> float:
    """RouterArena: mean score as a share of what the pool can reach, on all prompts."""
    reachable = float(np.nanmax(scores, axis=1).mean())
    return float(expected(scores, picks).mean()) / reachable if reachable else float("nan")


def ibc(quality: float, cost: float, small_quality: float, small_cost: float) -> float:
    """AutoMix's incremental benefit per cost (arXiv 2310.12963) over a small model."""
    return (quality - small_quality) / (cost - small_cost) if cost != small_cost else float("nan")


def cost_saved(costs: Vector, qualities: Vector, best_quality: float, best_cost: float) -> float:
    """LLMRouterBench's CostSave (arXiv 2601.07206): largest share of the best single model's cost
    that is cut at no less than its quality; NaN when its quality is never matched."""
    return 1.0 - qnc(costs, qualities, best_quality, best_cost) / 100


def performance_gain(qualities: Vector, best_quality: float) -> float:
    """LLMRouterBench's PerfGain: the best point above the best single model, as a share of it."""
    return float(qualities.max()) / best_quality - 1.0 if best_quality else float("nan")


def flips(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """Share of prompts whose choice changed; RouterArena's robustness is one minus it."""
    return float((before != after).mean())


def _is_below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def calibration_errors(predicted: Vector, truth: Vector) -> Matrix:
    """Prediction minus truth of each prompt, in the column of its bin: (prompts, 15).

    The absolute sums of the columns, added up and divided by the prompts, are the ECE; the table
    itself lets a resample compute it without binning again.
    """
    bins = ece_bins(predicted)
    errors = np.zeros((len(predicted), ECE_BINS))
    errors[np.arange(len(predicted)), bins] = predicted - truth
    return errors


def ece_bins(predicted: Vector) -> NDArray[np.int64]:
    """Return the bin of every prediction, (prompts,)."""
    return np.asarray(np.minimum((predicted * ECE_BINS).astype(np.int64), ECE_BINS - 1))


def ece(predicted: Vector, truth: Vector) -> float:
    """Expected calibration error over 15 bins of equal width (Naeini et al., AAAI 2015)."""
    errors = calibration_errors(predicted, truth)
    return float(np.abs(errors.sum(axis=0)).sum() / len(predicted))


def brier(predicted: Vector, truth: Vector) -> float:
    """Mean squared error of predicted quality."""
    return float(np.square(predicted - truth).mean())
