"""What shared skills and the ranking loss are worth beside every model's own correction.

    python -m tests.benchmarks.heads --routing DIR [--only alpaca,gsm8k,mmlu,experts] [--json]

DIR holds ``alpaca_eval.parquet``, ``routellm_gsm8k.parquet`` and ``routellm_mmlu.parquet``. Of the 49
models of AlpacaEval all labels of the training prompts are kept, or shares drawn by the seed. A router
is fitted once and refined in each way; all are judged on the same prompts. ``error`` is the root of the
squared error of how models differ there; ``top`` the share of prompts that go to the one model that
gets most. Means over the seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import router_models
from router_models.evaluation.metrics import apgr, deferral_curve
from router_models.perceptive.model import PerceptiveRouter
from router_models.training.dataset import RoutingData, read_routing_data
from router_models.training.errors import routing_error
from router_models.training.refine import refine
from router_models.training.train import TrainingOptions, fit_perceptive

EXPERTS = Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"
SETS = ("alpaca", "gsm8k", "mmlu", "experts")
KEPT = (1.0, 0.2, 0.1)
MOST_PROMPTS = 1_500


def cases(
    name: str, routing: Path, seed: int, shares: list[float]
) -> Iterator[tuple[str, RoutingData, RoutingData]]:
    """Give (name, training prompts, judged prompts) of a set."""
    if name == "experts":
        data = read_routing_data(EXPERTS)
    else:
        file = "alpaca_eval" if name == "alpaca" else f"routellm_{name}"
        data = read_routing_data(routing / f"{file}.parquet")
    train, held = data.training(), data.evaluation()
    draw = np.random.default_rng(seed)
    train = train.take(np.sort(draw.permutation(len(train.prompts))[:MOST_PROMPTS]))
    for kept in shares if name == "alpaca" else [1.0]:
        scores = np.where(draw.random(train.scores.shape) < kept, train.scores, np.nan)
        some = np.flatnonzero(~np.isnan(scores).all(axis=1))
        yield f"{name}, {kept:.0%} of labels", replace(train, scores=scores).take(some), held


def judge(router: PerceptiveRouter, held: RoutingData) -> dict[str, float]:
    quality = np.array([router.score(prompt).quality for prompt in held.prompts])
    best = quality.argmax(axis=1)
    told = {
        "error": routing_error(held.scores, quality) ** 0.5,
        "score": float(held.scores[np.arange(len(best)), best].mean()),
        "top": float(np.bincount(best).max() / len(best)),
    }
    if len(held.models) == 2:
        strong = int(held.scores.mean(axis=0).argmax())
        weak, able = held.scores[:, 1 - strong], held.scores[:, strong]
        curve = deferral_curve(quality[:, strong] - quality[:, 1 - strong], weak, able)
        told["apgr"] = apgr(*curve, float(weak.mean()), float(able.mean()))
    return told


def measure(
    train: RoutingData, held: RoutingData, seed: int, heads: list[str]
) -> dict[str, dict[str, float]]:
    """Judge one fit as it is, with shared skills where they were taken, and with the ranking loss."""
    fitted = fit_perceptive(train, TrainingOptions(seed=seed))
    found = {"own": judge(fitted.router, held)}
    if "shared" in heads:
        shared, told = refine(fitted, "squared", seed)
        found["shared"] = {**judge(shared.router, held), "rank": float(told.rank or 0)}
    if "ranking" in heads:
        ranked, told = refine(fitted, "ranking", seed)
        taken = float(told.ranking_penalty is not None)
        found["ranking"] = {**judge(ranked.router, held), "taken": taken}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routing", type=Path, required=True)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kept", default=",".join(map(str, KEPT)), help="shares of labels")
    parser.add_argument("--heads", default="own,shared,ranking")
    args = parser.parse_args()
    shares = [float(share) for share in args.kept.split(",")]
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in args.only.split(","):
        for seed in range(args.seeds):
            for case, train, held in cases(name, args.routing, seed, shares):
                for head, told in measure(train, held, seed, args.heads.split(",")).items():
                    found.setdefault(case, {}).setdefault(head, []).append(told)
    means = {
        case: {
            head: {k: round(float(np.mean([row[k] for row in rows])), 4) for k in rows[0]}
            for head, rows in heads.items()
        }
        for case, heads in found.items()
    }
    if args.json:
        print(json.dumps(means, indent=1))
        return
    for case, heads in means.items():
        for head, told in heads.items():
            print(f"{case:28} {head:8} " + "  ".join(f"{k} {v:.4f}" for k, v in told.items()))


if __name__ == "__main__":
    main()
