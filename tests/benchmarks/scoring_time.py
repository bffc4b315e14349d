"""CPU time of scoring one prompt, by each router of the shipped artifact and of one for fifty models.

    python -m tests.benchmarks.scoring_time [--json]

The second artifact is trained on the shipped prompts with every expert copied under ten names. Medians
over interleaved rounds, in milliseconds of one thread's CPU time; prompts of 64 and 512 tokens are
shipped evaluation prompts, cut at 4 characters a token. Exits with 1 when a row misses its target.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

import router_models
from router_models.artifact import DEFAULT, load_suite
from router_models.suite import RouterSuite
from router_models.training.dataset import RoutingData, read_routing_data
from router_models.training.fit_pilots import PilotOptions
from router_models.training.suite import train_suite

TARGETS_MS = {64: 0.3, 512: 1.0}
COPIES, PROMPTS, ROUNDS = 10, 20, 30


def copied(data: RoutingData) -> RoutingData:
    """Every model under ten names, so that there are fifty."""
    names = tuple(f"{model}-{i}" for i in range(COPIES) for model in data.models)
    losses = None if data.losses is None else np.tile(data.losses, COPIES)
    return replace(
        data,
        models=names,
        losses=losses,
        scores=np.tile(data.scores, COPIES),
        completion_tokens=np.tile(data.completion_tokens, COPIES),
    )


def measure() -> list[dict[str, object]]:
    path = Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"
    data = read_routing_data(path)
    suites: dict[int, RouterSuite] = {
        len(data.models): load_suite(DEFAULT),
        COPIES * len(data.models): train_suite(copied(data.training()), pilots=PilotOptions())[0],
    }
    longest = sorted(data.evaluation().prompts, key=len)[-PROMPTS:]
    cases = [(m, k, t) for m in suites for k in suites[m].kinds for t in TARGETS_MS]
    taken: dict[tuple[int, str, int], list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for models, kind, tokens in cases:
            for prompt in longest:
                text = prompt[: 4 * tokens]
                started_ns = time.thread_time_ns()
                suites[models].score(text, kind)
                taken[models, kind, tokens].append((time.thread_time_ns() - started_ns) / 1e6)
    return [
        {
            "models": models,
            "router": kind,
            "tokens": tokens,
            "median_ms": round(median(taken[models, kind, tokens]), 3),
            "target_ms": TARGETS_MS[tokens],
        }
        for models, kind, tokens in cases
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measure()
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(
                "{models:>3} models, {tokens:>3} tokens, {router:<10} "
                "{median_ms} ms of {target_ms}".format(**row)
            )
    return int(any(float(str(r["median_ms"])) > float(str(r["target_ms"])) for r in rows))


if __name__ == "__main__":
    sys.exit(main())
