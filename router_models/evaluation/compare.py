"""Ways of choosing a model, side by side on the same prompts and the same resamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation import baselines, metrics
from router_models.evaluation.bootstrap import Interval, Resamples, interval_of
from router_models.evaluation.report import BEST_SINGLE, PROMPT_ORACLE, TASK_ORACLE, PolicyRow
from router_models.training.dataset import RoutingData

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The evaluated prompts, their losses, and every policy's picks, (prompts, models) each."""

    data: RoutingData
    losses: Matrix
    picks: Mapping[str, Matrix]
    resamples: Resamples


def of_models(data: RoutingData, models: Sequence[str]) -> RoutingData:
    """Keep some models, and the prompts that at least one of them was measured on."""
    columns = [data.models.index(m) for m in models]
    kept = replace(
        data,
        models=tuple(models),
        scores=data.scores[:, columns],
        losses=None if data.losses is None else data.losses[:, columns],
        completion_tokens=data.completion_tokens[:, columns],
    )
    return kept.take(np.flatnonzero(~np.isnan(kept.scores).all(axis=1)))


def losses_of(data: RoutingData) -> Matrix:
    """Losses in nats where the data have them, else 1 - score; (prompts, models)."""
    return 1.0 - data.scores if data.losses is None else data.losses


def baseline_picks(
    losses: Matrix, tasks: tuple[str, ...], mean_losses: NDArray[np.float64]
) -> dict[str, Matrix]:
    """Picks of every baseline; ``mean_losses`` (models,) chooses the best single model."""
    return {
        "random": baselines.random_pick(losses),
        "round-robin": baselines.round_robin(losses),
        BEST_SINGLE: baselines.best_single(losses, mean_losses),
        TASK_ORACLE: baselines.task_oracle(losses, tasks),
        PROMPT_ORACLE: baselines.prompt_oracle(losses),
    }


def policy_rows(case: Comparison) -> tuple[PolicyRow, ...]:
    """Compare every policy with the best single model and the oracle, which must be among them."""
    data, losses, picks, resamples = case.data, case.losses, case.picks, case.resamples
    strict, tied = metrics.hits_strict(losses), metrics.hits_any_tied(losses)
    argmax = metrics.hits_argmax_score(data.scores)
    mean_loss = {p: resamples.means(metrics.expected(losses, picks[p])) for p in picks}
    single, oracle = mean_loss[BEST_SINGLE], mean_loss[PROMPT_ORACLE]
    rows = []
    for policy, pick in picks.items():
        saved = single - mean_loss[policy]
        with np.errstate(invalid="ignore", divide="ignore"):
            closed = np.where(single > oracle, saved / (single - oracle), np.nan)

        def over(values: Matrix, pick: Matrix = pick) -> Interval:
            return interval_of(resamples.means(metrics.expected(values, pick)))

        rows.append(
            PolicyRow(
                policy=policy,
                mean_score=over(data.scores),
                mean_loss=interval_of(mean_loss[policy]),
                optimal_strict=over(strict),
                optimal_any_tied=over(tied),
                optimal_argmax_score=over(argmax),
                gap_closed=interval_of(closed),
                regret=interval_of(resamples.means(metrics.regret(losses, pick))),
                below_best_single=interval_of(saved),
            )
        )
    return tuple(rows)
