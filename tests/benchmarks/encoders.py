"""Every encoder on the same outcomes: what routing by it is worth, costs and weighs.

    python -m tests.benchmarks.encoders --routing DIR [--only mmlu,gsm8k,experts] [--encoders …]

DIR holds ``routellm_mmlu.parquet`` and ``routellm_gsm8k.parquet``; the expert library ships with the
package. MMLU is fitted on at most ``--labels`` prompts of its split ``train``, drawn by the seed,
GSM8K and the experts on all of theirs, and all are judged on the other split.
``sentence-transformers`` needs the extra ``train`` and walks at most ``--steps`` steps. Times are CPU
seconds of one thread: run it with OMP_NUM_THREADS=1. What is in ``--out`` is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

import router_models
from router_models.artifact import load, save
from router_models.evaluation.evaluate import evaluate
from router_models.suite import RouterSuite
from router_models.training.dataset import TRAIN, RoutingData, read_routing_data
from router_models.training.suite import train_suite
from router_models.training.train import TrainingOptions

EXPERTS = Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"
SETS = ("mmlu", "gsm8k", "experts")
ENCODERS = ("lexical", "minilm", "sentence-transformers")
TOKENS, PROMPTS, ROUNDS = (64, 512), 10, 3


def read(name: str, routing: Path, labels: int, seed: int) -> RoutingData:
    """Read a set; of MMLU's training prompts at most ``labels`` stay."""
    if name == "experts":
        return read_routing_data(EXPERTS)
    data = read_routing_data(routing / f"routellm_{name}.parquet")
    is_train = np.array([split == TRAIN for split in data.splits])
    train = np.random.default_rng(seed).permutation(np.flatnonzero(is_train))[:labels]
    return data.take(np.sort(np.concatenate([train, np.flatnonzero(~is_train)])))


def measure(data: RoutingData, encoder: str, args: argparse.Namespace) -> dict[str, object]:
    """Train, store and judge one perceptive router."""
    began_s = time.process_time()
    options = TrainingOptions(seed=args.seed, encoder=encoder, loss=args.loss, steps=args.steps)
    suite = train_suite(data.training(), options)[0]
    train_s = time.process_time() - began_s
    with TemporaryDirectory() as folder:
        save(suite, Path(folder) / "a", training={}, metrics={})
        size = sum(path.stat().st_size for path in (Path(folder) / "a").iterdir())
        began_s = time.process_time()
        load(Path(folder) / "a")
        load_s = time.process_time() - began_s
    report = evaluate(suite.named("perceptive"), data)
    row = report.policy("router")
    apgr = None if report.pair is None else report.pair.apgr
    return {
        "labels": len(data.training().prompts),
        "judged": report.prompts,
        "apgr": None if apgr is None else [apgr.value, apgr.low, apgr.high],
        "optimal": [row.optimal_strict.value, row.optimal_strict.low, row.optimal_strict.high],
        "score": [row.mean_score.value, row.mean_score.low, row.mean_score.high],
        "train_cpu_s": round(train_s, 1),
        "load_cpu_s": round(load_s, 2),
        "artifact_mb": round(size / 1e6, 1),
        "ms_per_prompt": {str(tokens): scoring_ms(suite, data, tokens) for tokens in TOKENS},
    }


def scoring_ms(suite: RouterSuite, data: RoutingData, tokens: int) -> float:
    """Median CPU time of scoring a prompt of so many tokens of four characters."""
    text = "\n".join(data.evaluation().prompts)
    size = 4 * tokens
    prompts = [text[i * size : (i + 1) * size] for i in range(PROMPTS)]
    suite.score(prompts[0])
    taken = []
    for _ in range(ROUNDS):
        for prompt in prompts:
            began_ns = time.thread_time_ns()
            suite.score(prompt)
            taken.append((time.thread_time_ns() - began_ns) / 1e6)
    return round(median(taken), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routing", type=Path, required=True)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--encoders", default=",".join(ENCODERS))
    parser.add_argument("--labels", type=int, default=1_500)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--loss", choices=["squared", "ranking"], default="squared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("encoders.json"))
    args = parser.parse_args()
    done = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.only.split(","):
        data = read(name, args.routing, args.labels, args.seed)
        for encoder in args.encoders.split(","):
            key = f"{name}, {encoder}, {args.loss}, seed {args.seed}"
            if key not in done:
                done[key] = measure(data, encoder, args)
                args.out.write_text(json.dumps(done, indent=1) + "\n")
            print(key, json.dumps(done[key]), flush=True)


if __name__ == "__main__":
    main()
