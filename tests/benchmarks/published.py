"""The router against published figures, each under the protocol that the figure had.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.published --data DIR [--only mmlu] [--kinds perceptive]

DIR holds ``routellm_mmlu.parquet``, ``routellm_gsm8k.parquet`` and ``routerdc.parquet``, outcomes in
the form that ``thalamus train`` reads. Every router is what ``thalamus train`` makes of the same rows
with its defaults; every prediction is what ``thalamus predict`` writes.

* ``mmlu``: fitted on 1,500 prompts drawn from one half of the file, by the bits of their ids; the other
  prompts of that half report. The other half is where methods are tried. The same routers, which saw
  MMLU alone, are then asked for GSM8K: the figure ``transfer``.
* ``gsm8k``: every prompt is predicted by a router fitted on the nine tenths that it is not in.
* ``routerdc``: fitted on the published training sets, reported on the five published tests; the task
  of a test prompt is not given.

Intervals are 95 %, over the reported prompts, for the first seed; the spread over seeds stands beside.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.bootstrap import Resamples, interval_of
from router_models.evaluation.calibration import perfect_ece
from router_models.evaluation.metrics import apgr, calibration_errors, deferral_curve
from router_models.evaluation.predictions import predict_all
from router_models.suite import RouterSuite
from router_models.training.dataset import TRAIN, RoutingData, read_routing_data
from router_models.training.fit_pilots import PilotOptions
from router_models.training.suite import train_suite
from router_models.training.train import TrainingOptions

Kinds = Sequence[str]
Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]
Vector = NDArray[np.float64]

KINDS = ("perceptive", "retriever", "ensemble")
MMLU_LABELS = 1_500
_FOLDS = 10
_FIVE = ("mmlu_test", "gsm8k-test", "cmmlu_test", "arc_challenge_test", "humaneval_test")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one router; ``interval`` is empty but for the first seed.

    ``by_chance`` is the ECE that a perfect router would show for the worst calibrated model.
    """

    figure: str
    router: str
    seed: int
    value: float
    interval: tuple[float, ...]
    prompts: int
    worst_ece: float
    by_chance: float


def trained(data: RoutingData, rows: Indices, seed: int, kinds: Kinds) -> RouterSuite:
    """What ``thalamus train --seed`` makes of these prompts, with pilots if they are asked for."""
    kept = replace(data.take(rows), splits=(TRAIN,) * len(rows))
    options = TrainingOptions(seed=seed)
    pilots = None if set(kinds) == {"perceptive"} else PilotOptions(seed=seed)
    return train_suite(kept, options, pilots=pilots)[0]


def quality(suite: RouterSuite, kind: str, data: RoutingData) -> Matrix:
    """Predicted quality, (prompts, models), in the order of the data's models."""
    router = suite.named(kind)
    columns = [router.models.index(model) for model in data.models]
    return predict_all(router, data.prompts).quality[:, columns]


def pair_apgr(scores: Matrix, predicted: Matrix) -> float:
    """RouteLLM's APGR of two models; the strong one is the better on average."""
    means = scores.mean(axis=0)
    strong = int(means.argmax())
    margin = predicted[:, strong] - predicted[:, 1 - strong]
    curve = deferral_curve(margin, scores[:, 1 - strong], scores[:, strong])
    return apgr(*curve, float(means[1 - strong]), float(means[strong]))


def macro(scores: Matrix, predicted: Matrix, tasks: Indices) -> float:
    """Mean over tasks of the mean score of the best predicted model, in per cent."""
    routed = scores[np.arange(len(scores)), predicted.argmax(axis=1)]
    return 100.0 * float(np.mean([routed[tasks == task].mean() for task in np.unique(tasks)]))


def mmlu(folder: Path, seeds: Sequence[int], kinds: Kinds) -> Iterator[Row]:
    data = read_routing_data(folder / "routellm_mmlu.parquet")
    other = read_routing_data(folder / "routellm_gsm8k.parquet")
    half = np.flatnonzero([crc32(i.encode()) % 2 == 1 for i in data.prompt_ids])
    may_train = half[[data.splits[i] == TRAIN for i in half]]
    for seed in seeds:
        drawn = np.random.default_rng(seed).permutation(may_train)[:MMLU_LABELS]
        suite = trained(data, np.sort(drawn), seed, kinds)
        held_out = data.take(np.setdiff1d(half, drawn))
        for kind in kinds:
            for name, test in (("MMLU", held_out), ("transfer", other)):
                yield _pair_row(name, kind, seed, test, quality(suite, kind, test))


def gsm8k(folder: Path, seeds: Sequence[int], kinds: Kinds) -> Iterator[Row]:
    data = read_routing_data(folder / "routellm_gsm8k.parquet")
    for seed in seeds:
        folds = np.random.default_rng(seed).permutation(len(data.prompts)) % _FOLDS
        predicted = {kind: np.empty_like(data.scores) for kind in kinds}
        for fold in range(_FOLDS):
            suite = trained(data, np.flatnonzero(folds != fold), seed, kinds)
            held = np.flatnonzero(folds == fold)
            for kind in kinds:
                predicted[kind][held] = quality(suite, kind, data.take(held))
        for kind in kinds:
            yield _pair_row("GSM8K", kind, seed, data, predicted[kind])


def routerdc(folder: Path, seeds: Sequence[int], kinds: Kinds) -> Iterator[Row]:
    data = read_routing_data(folder / "routerdc.parquet")
    published = np.flatnonzero([task in _FIVE for task in data.tasks])
    test = data.take(published[[data.splits[i] != TRAIN for i in published]])
    tasks = np.unique(test.tasks, return_inverse=True)[1]
    for seed in seeds:
        suite = trained(data, np.flatnonzero([s == TRAIN for s in data.splits]), seed, kinds)
        for kind in kinds:
            found = quality(suite, kind, test)
            interval = _interval(seed, len(tasks), partial(_macro_of, test.scores, found, tasks))
            yield _row("RouterDC", kind, seed, interval, test, found)


def _macro_of(scores: Matrix, predicted: Matrix, tasks: Indices, rows: Indices) -> float:
    return macro(scores[rows], predicted[rows], tasks[rows])


def _pair_row(name: str, kind: str, seed: int, test: RoutingData, found: Matrix) -> Row:
    both = ~np.isnan(test.scores).any(axis=1)
    scores, kept = test.scores[both], found[both]
    interval = _interval(seed, len(scores), lambda d: pair_apgr(scores[d], kept[d]))
    return _row(name, kind, seed, interval, test, found)


def _row(
    name: str, kind: str, seed: int, figure: list[float], test: RoutingData, found: Matrix
) -> Row:
    worst, by_chance = max(_ece(found[:, m], test.scores[:, m]) for m in range(found.shape[1]))
    return Row(name, kind, seed, figure[0], tuple(figure[1:]), len(test.prompts), worst, by_chance)


def _ece(predicted: Vector, scores: Vector) -> tuple[float, float]:
    """The error of calibration, and what chance alone would give a perfect router."""
    known = ~np.isnan(scores)
    predicted, scores = predicted[known], scores[known]
    errors = calibration_errors(predicted, scores)
    return float(np.abs(errors.sum(axis=0)).sum() / known.sum()), perfect_ece(predicted, scores)


def _interval(seed: int, count: int, of: Callable[[Indices], float]) -> list[float]:
    """The value on all prompts, and for the first seed what resampled prompts give."""
    if seed:
        return [of(np.arange(count))]
    drawn = Resamples.draw(count, 0).drawn()
    interval = interval_of(np.array([of(rows) for rows in drawn]))
    return [interval.value, interval.low, interval.high]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["mmlu", "gsm8k", "routerdc"])
    parser.add_argument("--kinds", nargs="+", default=["perceptive", "ensemble"], choices=KINDS)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    figures = {"mmlu": mmlu, "gsm8k": gsm8k, "routerdc": routerdc}
    found: dict[tuple[str, str], list[float]] = {}
    for name in arguments.only:
        for row in figures[name](arguments.data, range(arguments.seeds), arguments.kinds):
            print(json.dumps(asdict(row)), flush=True)
            found.setdefault((row.figure, row.router), []).append(row.value)
    for (figure, kind), values in found.items():
        print(figure, kind, f"{np.mean(values):.4f} ± {np.std(values):.4f}")


if __name__ == "__main__":
    main()
