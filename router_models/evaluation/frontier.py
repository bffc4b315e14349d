"""Quality against cost: what the router reaches as cost gains weight, beside every single model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation import metrics
from router_models.evaluation.baselines import pick_highest
from router_models.evaluation.bootstrap import Resamples, interval_of
from router_models.evaluation.predictions import CHARS_PER_TOKEN, Predictions
from router_models.evaluation.report import CostPoint, Frontier
from router_models.prices import Prices, cost_usd
from router_models.training.dataset import RoutingData
from router_models.types import DataError

Matrix = NDArray[np.float64]

#: Weights of cost, where 1 trades the dearest model's mean cost for the whole range of quality.
_WEIGHTS = (0.0, *np.geomspace(1e-3, 1e2, 41).tolist())

#: Resamples of the whole curve: each takes a millisecond.
_CURVES = 200


@dataclass(frozen=True, slots=True)
class _Settled:
    """What choices truly cost and bring, of every resample first the sample itself.

    ``costs`` in USD per 1,000 prompts, ``scores`` and ``losses``: (resamples + 1, choices).
    """

    names: tuple[str, ...]
    costs: Matrix
    scores: Matrix
    losses: Matrix

    def points(self) -> tuple[CostPoint, ...]:
        rows = zip(self.costs[0], self.scores[0], self.losses[0], strict=True)
        return tuple(
            CostPoint(name, float(cost), float(score), float(loss))
            for name, (cost, score, loss) in zip(self.names, rows, strict=True)
        )


def trace_frontier(
    data: RoutingData,
    losses: Matrix,
    predicted: Predictions,
    prices: Prices,
    picks: Mapping[str, Matrix],
    resamples: Resamples,
) -> Frontier:
    """Choose by ``argmin 1 - quality + weight · cost`` for rising weights, and settle the truth.

    Choices see predicted costs, results count true ones: measured answer lengths, where there are
    any. ``picks`` are the baselines'. Raises DataError naming a model without a price.
    """
    expected, costs = _costs(data, predicted, prices)
    scale = float(expected.mean(axis=0).max()) or 1.0

    def settle(chosen: Mapping[str, Matrix]) -> _Settled:
        found = [
            np.column_stack([metrics.expected(values, pick) for pick in chosen.values()])
            for values in (1000 * costs, data.scores, losses)
        ]
        return _Settled(tuple(chosen), *(resamples.sums(f) / len(losses) for f in found))

    weighed = {
        f"{w:.3g}": pick_highest(predicted.quality - w * expected / scale, losses) for w in _WEIGHTS
    }
    alone = {m: pick_highest(_only(losses, i), losses) for i, m in enumerate(data.models)}
    router, singles = settle(weighed), settle(alone)
    free = next(iter(weighed.values()))
    cheapest = metrics.expected(metrics.hits_cheapest_correct(data.scores, costs), free)
    reachable = resamples.means(np.nanmax(data.scores, axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        optimal_accuracy = np.where(reachable > 0, router.scores[:, 0] / reachable, np.nan)
        shares = metrics.optimal_cost_shares(data.scores, costs, free)
    rows = [_metrics(router, singles, row) for row in range(1 + _CURVES)]
    return Frontier(
        router=router.points(),
        singles=singles.points(),
        baselines=settle(picks).points(),
        cheapest_correct=interval_of(resamples.means(cheapest)),
        optimal_cost=interval_of(resamples.means(np.where(np.isfinite(shares), shares, np.nan))),
        optimal_accuracy=interval_of(optimal_accuracy),
        **{name: interval_of(np.array([row[name] for row in rows])) for name in rows[0]},
    )


def _metrics(router: _Settled, singles: _Settled, row: int) -> dict[str, float]:
    """Compute every metric that reads the whole curve, on one resample."""
    x, y = router.costs[row], router.scores[row]
    costs, scores = singles.costs[row], singles.scores[row]
    best, small = int(scores.argmax()), int(costs.argmin())
    dearest = float(costs.max())
    is_free = dearest <= 0
    nan = float("nan")
    target = float(scores[best]), float(costs[best])
    return {
        "audc": nan if is_free else metrics.audc(x, y, dearest),
        "audc_half": nan if is_free else metrics.audc(x, y, dearest, 0.5),
        "qnc_percent": nan if target[1] <= 0 else metrics.qnc(x, y, *target),
        "cost_saved": nan if target[1] <= 0 else metrics.cost_saved(x, y, *target),
        "aiq_paper": metrics.aiq(x, y, max_cost=dearest),
        "aiq_code": nan if is_free else metrics.aiq(x, y, max_cost=dearest, variant="code"),
        "aiq_zero": metrics.aiq(costs, scores, max_cost=dearest),
        "arena_score": nan if x[0] <= 0 else metrics.arena_score(float(y[0]), float(x[0])),
        "ibc": metrics.ibc(float(y[0]), float(x[0]), float(scores[small]), float(costs[small])),
        "performance_gain": metrics.performance_gain(y, target[0]),
    }


def _costs(data: RoutingData, predicted: Predictions, prices: Prices) -> tuple[Matrix, Matrix]:
    """Return predicted and true costs in USD, (prompts, models)."""
    missing = [m for m in data.models if m not in prices]
    if missing:
        raise DataError(f"model {missing[0]!r} has no price; give one or evaluate without prices")
    prompt_tokens = np.where(
        np.isnan(data.prompt_tokens),
        [len(prompt) / CHARS_PER_TOKEN for prompt in data.prompts],
        data.prompt_tokens,
    )
    lengths = np.where(
        np.isnan(data.completion_tokens), predicted.output_tokens, data.completion_tokens
    )
    expected = cost_usd(prices, data.models, prompt_tokens, predicted.output_tokens)
    return expected, cost_usd(prices, data.models, prompt_tokens, lengths)


def _only(losses: Matrix, column: int) -> Matrix:
    preference = np.zeros_like(losses)
    preference[:, column] = 1.0
    return preference
