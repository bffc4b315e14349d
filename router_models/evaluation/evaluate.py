"""Evaluate a router on measured outcomes, side by side with every baseline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation import baselines, metrics
from router_models.evaluation.bootstrap import Interval, Resamples, interval_of
from router_models.evaluation.calibration import calibration_rows
from router_models.evaluation.compare import (
    Comparison,
    baseline_picks,
    losses_of,
    of_models,
    policy_rows,
)
from router_models.evaluation.frontier import trace_frontier
from router_models.evaluation.pair import pair_row
from router_models.evaluation.peers import peer_preferences
from router_models.evaluation.predictions import predict_all
from router_models.evaluation.report import (
    BEST_SINGLE,
    ROUTER,
    TASK_ORACLE,
    EvaluationReport,
    PairRow,
    TaskRow,
)
from router_models.prices import Price, Prices
from router_models.training.dataset import TRAIN, RoutingData
from router_models.types import DataError, Router

Matrix = NDArray[np.float64]


def evaluate(
    router: Router,
    data: RoutingData,
    *,
    split: str | None = None,
    prices: Prices | None = None,
    seed: int = 0,
    with_peers: bool = False,
) -> EvaluationReport:
    """Evaluate on one split, by default on all but ``train``.

    ``with_peers`` fits published routers on the file's training prompts and adds their rows. The
    best single model is chosen on the training prompts where the file has any, else on the
    evaluated ones, which favours it. Raises DataError when there are no such prompts, or fewer
    than two of the router's models among the data's.
    """
    shared = [m for m in data.models if m in router.models]
    if len(shared) < 2:
        raise DataError(
            f"column 'model': the router knows {', '.join(router.models)}; the file holds "
            f"{len(shared)} of them and two are needed"
        )
    known = of_models(data, shared)
    held_out = known.evaluation(split)
    has_training = TRAIN in known.splits and split != TRAIN
    train = known.training() if has_training else None
    means = baselines.mean_measured(losses_of(train or held_out))
    quality = predict_all(router, held_out.prompts)
    predicted = quality.of_models([router.models.index(m) for m in shared])
    losses = losses_of(held_out)
    usual = baseline_picks(losses, held_out.tasks, means)
    picks = {ROUTER: baselines.pick_highest(predicted.quality, losses), **usual}
    peers = peer_preferences(train, held_out, seed) if with_peers and train else {}
    picks |= {name: baselines.pick_highest(liked, losses) for name, liked in peers.items()}
    case = Comparison(held_out, losses, picks, Resamples.draw(len(held_out.prompts), seed))
    trace = partial(
        trace_frontier, held_out, losses, predicted, picks=usual, resamples=case.resamples
    )
    tells_lengths = not np.isnan(held_out.completion_tokens).all()
    pairs = _pairs(held_out, {ROUTER: predicted.quality, **peers}, seed)
    return EvaluationReport(
        router_version=router.version,
        data_sha256=data.sha256,
        prompts=len(held_out.prompts),
        models=tuple(shared),
        ignored_models=tuple(m for m in data.models if m not in router.models),
        loss_unit="1 - score" if data.losses is None else "nats per token",
        best_single=shared[int(means.argmin())],
        best_single_from=TRAIN if has_training else "evaluated prompts",
        policies=policy_rows(case),
        tasks=_task_rows(case),
        calibration=calibration_rows(held_out, predicted, case.resamples),
        peers=tuple(peers),
        peer_prompts=len(train.prompts) if peers and train else 0,
        pair=pairs[0] if pairs else None,
        peer_pairs=tuple(pairs[1:]),
        frontier=trace(prices=prices) if prices else None,
        tokens=None if prices or not tells_lengths else trace(prices=_by_tokens(shared)),
    )


def _by_tokens(models: Sequence[str]) -> Prices:
    """One price for all, so that costs are told in millions of tokens."""
    return dict.fromkeys(models, Price(1.0, 1.0))


def _task_rows(case: Comparison) -> tuple[TaskRow, ...]:
    data, losses, picks, resamples = case.data, case.losses, case.picks, case.resamples
    labels = np.array(data.tasks)
    strict = metrics.hits_strict(losses)
    router = picks[ROUTER]
    optimal = metrics.expected(strict, router)
    rows = []
    for task in sorted(set(data.tasks)):
        members = labels == task
        specialist = int(baselines.mean_measured(losses[members]).argmin())
        is_best = members & (strict[:, specialist] == 1)

        def over(values: NDArray[np.float64], where: NDArray[np.bool_] = members) -> Interval:
            return interval_of(resamples.means(np.where(where, values, np.nan)))

        rows.append(
            TaskRow(
                task=task,
                prompts=int(members.sum()),
                specialist=data.models[specialist],
                picks_optimal=over(optimal),
                picks_specialist=over(router[:, specialist], is_best),
                mean_loss=over(metrics.expected(losses, router)),
                best_single_loss=_mean_loss(losses, picks[BEST_SINGLE], members),
                specialist_loss=_mean_loss(losses, picks[TASK_ORACLE], members),
                traffic=dict(zip(data.models, router[members].mean(axis=0).tolist(), strict=True)),
            )
        )
    return tuple(rows)


def _pairs(data: RoutingData, preferences: dict[str, Matrix], seed: int) -> list[PairRow]:
    if len(data.models) != 2:
        return []
    rows = [pair_row(policy, data, liked, seed) for policy, liked in preferences.items()]
    return [row for row in rows if row is not None]


def _mean_loss(losses: Matrix, picks: Matrix, members: NDArray[np.bool_]) -> float:
    return float(metrics.expected(losses, picks)[members].mean())
