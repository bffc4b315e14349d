"""How often a guarantee is broken over random splits of measured outcomes.

    python -m tests.benchmarks.guarantee --data D.parquet [--router DIR] [--kind ensemble]

A router is trained on the ``train`` prompts (or loaded); the others are split at random into prompts
to calibrate on and prompts to keep the promise on. A split counts as broken when, of the answers
given under the guarantee to its kept prompts, more than ``risk`` fail. Models are asked in the order
of their mean score in training, weakest first, as a price list would order them.

An answer fails when its score is below ``--pass-score``; or with ``--within 0.1`` when it is more
than a tenth worse than the best model's answer to the same prompt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from policies.guarantee import Outcomes, calibrate, count_failures
from router_models.artifact import load_suite, resolve
from router_models.evaluation.predictions import predict_all
from router_models.training.dataset import RoutingData, read_routing_data
from router_models.training.fit_pilots import PilotOptions
from router_models.training.suite import train_suite


def outcomes_of(data: RoutingData, args: argparse.Namespace) -> Outcomes:
    """Predict every evaluation prompt and tell which models fail it."""
    training, held_out = data.training(), data.evaluation(args.split)
    suite = (
        load_suite(resolve(args.router))
        if args.router
        else train_suite(training, pilots=PilotOptions())[0]
    )
    router = suite.named(args.kind)
    order = [data.models[i] for i in np.argsort(np.nanmean(training.scores, axis=0))]
    measured = ~np.isnan(held_out.scores).any(axis=1)
    held_out = held_out.take(np.flatnonzero(measured))
    predicted = predict_all(router, held_out.prompts)
    failed = _failures(held_out.scores, args)
    return Outcomes(
        models=tuple(order),
        predicted=_columns(predicted.quality, [router.models.index(m) for m in order]),
        failed=_columns(failed, [data.models.index(m) for m in order]),
    )


def _failures(scores: NDArray[np.float64], args: argparse.Namespace) -> NDArray[np.bool_]:
    if args.within is not None:
        return np.asarray(scores < (1 - args.within) * scores.max(axis=1, keepdims=True))
    return np.asarray(scores < args.pass_score)


def _columns(values: NDArray[np.generic], order: list[int]) -> tuple[tuple[object, ...], ...]:
    return tuple(tuple(row) for row in values[:, order].tolist())


def measure(outcomes: Outcomes, args: argparse.Namespace) -> dict[str, float]:
    """Run the splits; rates are means over them."""
    random = Random(args.seed)
    rows = list(range(len(outcomes.predicted)))
    share = round(args.calibration * len(rows))
    broken = promised = 0
    risks, served, weakest = [], [], []
    for _ in range(args.splits):
        random.shuffle(rows)
        fitted, kept = _take(outcomes, rows[:share]), _take(outcomes, rows[share:])
        threshold = calibrate(fitted, args.risk, args.confidence)
        if threshold is None:
            continue
        promised += 1
        trials, failures = count_failures(kept, threshold)
        broken += failures > args.risk * trials
        risks.append(failures / max(trials, 1))
        served.append(trials / len(kept.predicted))
        weakest.append(sum(p[0] >= threshold for p in kept.predicted) / len(kept.predicted))
    return {
        "prompts": len(rows),
        "splits": args.splits,
        "splits_with_a_promise": promised,
        "broken_share_of_splits": broken / args.splits,
        "mean_realised_risk": float(np.mean(risks)) if risks else 0.0,
        "mean_share_served": float(np.mean(served)) if served else 0.0,
        "mean_share_on_first_model": float(np.mean(weakest)) if weakest else 0.0,
    }


def _take(outcomes: Outcomes, rows: list[int]) -> Outcomes:
    return Outcomes(
        outcomes.models,
        tuple(outcomes.predicted[i] for i in rows),
        tuple(outcomes.failed[i] for i in rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--router", help="an artifact; by default one is trained on the data")
    parser.add_argument("--kind", default="perceptive", help="which of the artifact's routers")
    parser.add_argument("--split", help="rows to use; by default all that are not train")
    parser.add_argument("--risk", type=float, default=0.1)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--calibration", type=float, default=0.5, help="share to calibrate on")
    parser.add_argument("--pass-score", type=float, default=0.5)
    parser.add_argument("--within", type=float, help="share by which an answer may be worse")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(measure(outcomes_of(read_routing_data(args.data), args), args), indent=1))


if __name__ == "__main__":
    main()
