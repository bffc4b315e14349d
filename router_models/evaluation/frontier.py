"""Quality against cost: what the router reaches as cost gains weight, beside every single model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation import metrics
from router_models.evaluation.baselines import pick_highest
from router_models.evaluation.predictions import CHARS_PER_TOKEN, Predictions
from router_models.evaluation.report import CostPoint, Frontier
from router_models.prices import Prices, cost_usd
from router_models.training.dataset import RoutingData
from router_models.types import DataError

Matrix = NDArray[np.float64]

#: Weights of cost, where 1 trades the dearest model's mean cost for the whole range of quality.
_WEIGHTS = (0.0, *np.geomspace(1e-3, 1e2, 41).tolist())


def trace_frontier(
    data: RoutingData, losses: Matrix, predicted: Predictions, prices: Prices
) -> Frontier:
    """Choose by ``argmin 1 - quality + weight · cost`` for rising weights, and settle the truth.

    Choices see predicted costs, results count true ones: measured answer lengths, where there are
    any. Raises DataError naming a model without a price.
    """
    missing = [m for m in data.models if m not in prices]
    if missing:
        raise DataError(f"model {missing[0]!r} has no price; give one or evaluate without prices")
    prompt_tokens = np.where(
        np.isnan(data.prompt_tokens),
        [len(prompt) / CHARS_PER_TOKEN for prompt in data.prompts],
        data.prompt_tokens,
    )
    expected = cost_usd(prices, data.models, prompt_tokens, predicted.output_tokens)
    lengths = np.where(
        np.isnan(data.completion_tokens), predicted.output_tokens, data.completion_tokens
    )
    costs = cost_usd(prices, data.models, prompt_tokens, lengths)
    scale = float(expected.mean(axis=0).max()) or 1.0

    def settle(name: str, picks: Matrix) -> CostPoint:
        return CostPoint(
            name,
            1000 * float(metrics.expected(costs, picks).mean()),
            float(metrics.expected(data.scores, picks).mean()),
            float(metrics.expected(losses, picks).mean()),
        )

    picks = [pick_highest(predicted.quality - w * expected / scale, losses) for w in _WEIGHTS]
    router = tuple(settle(f"{w:.3g}", pick) for w, pick in zip(_WEIGHTS, picks, strict=True))
    singles = tuple(
        settle(model, pick_highest(_only(losses, column), losses))
        for column, model in enumerate(data.models)
    )
    best = max(singles, key=lambda point: point.mean_score)
    dearest = max(point.usd_per_1k for point in singles)
    x = np.array([point.usd_per_1k for point in router])
    y = np.array([point.mean_score for point in router])
    cheapest = metrics.expected(metrics.hits_cheapest_correct(data.scores, costs), picks[0])
    free = dearest <= 0
    small = min(singles, key=lambda point: point.usd_per_1k)
    qnc = float("nan") if free else metrics.qnc(x, y, best.mean_score, best.usd_per_1k)
    return Frontier(
        router=router,
        singles=singles,
        audc=float("nan") if free else metrics.audc(x, y, dearest),
        qnc_percent=qnc,
        aiq_paper=metrics.aiq(x, y, max_cost=dearest),
        aiq_code=float("nan") if free else metrics.aiq(x, y, max_cost=dearest, variant="code"),
        arena_score=float("nan") if x[0] <= 0 else metrics.arena_score(float(y[0]), float(x[0])),
        cheapest_correct=float(np.nanmean(cheapest)) if not np.isnan(cheapest).all() else np.nan,
        optimal_cost=float("nan") if free else metrics.optimal_cost(data.scores, costs, picks[0]),
        optimal_accuracy=metrics.optimal_accuracy(data.scores, picks[0]),
        audc_half=float("nan") if free else metrics.audc(x, y, dearest, 0.5),
        ibc=metrics.ibc(float(y[0]), float(x[0]), small.mean_score, small.usd_per_1k),
        cost_saved=1.0 - qnc / 100,
    )


def _only(losses: Matrix, column: int) -> Matrix:
    preference = np.zeros_like(losses)
    preference[:, column] = 1.0
    return preference
