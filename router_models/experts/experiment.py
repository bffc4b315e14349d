"""Tryage's experiment (arXiv 2308.11601) on eleven experts: who picks the best, and at what size.

Needs neither torch nor the adapters: losses, sizes and the language model's answers are recorded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from router_models.commands import train_command
from router_models.evaluation import baselines, metrics
from router_models.evaluation.bootstrap import Interval, Resamples, interval_of
from router_models.evaluation.compare import Comparison, baseline_picks, losses_of, policy_rows
from router_models.evaluation.peers import peer_preferences
from router_models.evaluation.predictions import predict_all
from router_models.evaluation.report import BEST_SINGLE, PROMPT_ORACLE, ROUTER
from router_models.experts.members import Library, Member, read_members
from router_models.training.dataset import RoutingData, read_routing_data
from router_models.types import DataError

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

CHOOSER = "zero-shot language model"
AVERAGE = "uniform average of the adapters"
#: Weights of size: loss in nats that the whole range of sizes is worth.
_WEIGHTS = (0.0, *np.geomspace(0.01, 10.0, 61).tolist())


@dataclass(frozen=True, slots=True)
class Row:
    """One way of choosing; ``optimal`` is the share of prompts on which it takes the best member."""

    policy: str
    optimal: Interval
    mean_loss: Interval
    gap_closed: Interval
    mean_size_mb: float


@dataclass(frozen=True, slots=True)
class Point:
    """Mean loss at a mean size; ``name`` is a member, or the weight of size."""

    name: str
    size_mb: float
    loss: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """All results. Rows are in the order of the table; both curves run over growing λ."""

    train_prompts: int
    report_prompts: int
    rows: tuple[Row, ...]
    members: tuple[Point, ...]
    router_curve: tuple[Point, ...]
    oracle_curve: tuple[Point, ...]


def run_experiment(data: Path, members: Path, *, router: str = "perceptive") -> Experiment:
    """Train on the split ``train``, report on the rest.

    Raises DataError where the two files do not speak of the same models and prompts.
    """
    library, table = read_members(members), read_routing_data(data)
    train, held_out = table.training(), table.evaluation()
    _check(library, held_out)
    sizes = np.array([m.size_mb for m in _in_order(library, table.models)])
    with tempfile.TemporaryDirectory() as folder:
        quiet = Console(quiet=True)
        trained = train_command(data, Path(folder) / "a", router=router, console=quiet)
        predicted = -np.log(predict_all(trained, held_out.prompts).quality)
    losses = losses_of(held_out)
    means = baselines.mean_measured(losses_of(train))
    peers = peer_preferences(train, held_out)
    named = np.array([held_out.models.index(library.chosen[i]) for i in held_out.prompt_ids])
    picks = {
        ROUTER: baselines.pick_highest(-predicted, losses),
        **{name: baselines.pick_highest(liked, losses) for name, liked in peers.items()},
        CHOOSER: np.eye(len(held_out.models))[named],
        **baseline_picks(losses, held_out.tasks, means),
    }
    comparison = Comparison(held_out, losses, picks, Resamples.draw(len(held_out.prompts), 0))
    return Experiment(
        train_prompts=len(train.prompts),
        report_prompts=len(held_out.prompts),
        rows=(*_rows(comparison, sizes), _average_row(comparison, library, means, sizes)),
        members=tuple(
            Point(model, float(size), float(loss))
            for model, size, loss in zip(held_out.models, sizes, losses.mean(axis=0), strict=True)
        ),
        router_curve=_curve(predicted, losses, sizes),
        oracle_curve=_curve(losses, losses, sizes),
    )


def _check(library: Library, held_out: RoutingData) -> None:
    names = {m.model for m in library.members}
    if names != set(held_out.models):
        odd = sorted(names ^ set(held_out.models))[0]
        raise DataError(f"column 'model': {odd!r} is in one of the two files alone")
    for what, known in (("average", library.average_losses), ("chosen", library.chosen)):
        missing = [i for i in held_out.prompt_ids if i not in known]
        if missing:
            raise DataError(f"prompt_id {missing[0]!r} has no {what!r} in the library's file")


def _in_order(library: Library, models: Sequence[str]) -> list[Member]:
    by_name = {m.model: m for m in library.members}
    return [by_name[model] for model in models]


def _rows(comparison: Comparison, sizes: Vector) -> list[Row]:
    by_size = np.broadcast_to(sizes, comparison.losses.shape)
    return [
        Row(
            row.policy,
            row.optimal_strict,
            row.mean_loss,
            row.gap_closed,
            float(metrics.expected(by_size, comparison.picks[row.policy]).mean()),
        )
        for row in policy_rows(comparison)
    ]


def _average_row(comparison: Comparison, library: Library, means: Vector, sizes: Vector) -> Row:
    """The averaged adapters are no member, so they are never the optimal one."""
    own = np.array([library.average_losses[i] for i in comparison.data.prompt_ids])
    resamples = comparison.resamples
    single, oracle, mean = (
        resamples.means(values)
        for values in (
            metrics.expected(comparison.losses, comparison.picks[BEST_SINGLE]),
            metrics.expected(comparison.losses, comparison.picks[PROMPT_ORACLE]),
            own,
        )
    )
    return Row(
        AVERAGE,
        Interval(float("nan"), float("nan"), float("nan")),
        interval_of(mean),
        interval_of((single - mean) / (single - oracle)),
        float(sizes[int(means.argmin())]),
    )


def _curve(expected: Matrix, losses: Matrix, sizes: Vector) -> tuple[Point, ...]:
    """Tryage's objective: ``argmin loss + λ · size``, sizes scaled to [0, 1] over the pool."""
    scaled = (sizes - sizes.min()) / (sizes.max() - sizes.min())
    rows = np.arange(len(losses))
    points = []
    for weight in _WEIGHTS:
        choice = (expected + weight * scaled).argmin(axis=1)
        point = Point(
            f"{weight:.3g}", float(sizes[choice].mean()), float(losses[rows, choice].mean())
        )
        points.append(point)
    return tuple(points)
