"""How well nearness to the pilots tells prompts of another kind, and what falling back costs.

    python -m tests.benchmarks.familiarity [--data D.parquet] [--others NAME=O.parquet …] [--json]

Each task in turn is left out of training: its evaluation prompts are of another kind, those of the
other tasks are not. Then a router trained on all tasks is asked about the prompts of every
``--others`` file (column ``prompt``). AUROC is the chance that a strange prompt is less near than a
familiar one; ``far`` is the share that falls back. Thresholds are set on training prompts alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import router_models
from router_models.suite import RouterSuite
from router_models.training.dataset import RoutingData, read_prompts, read_routing_data
from router_models.training.fit_pilots import PilotOptions
from router_models.training.suite import train_suite

SHIPPED = Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"
_MOST_PROMPTS = 500

Floats = NDArray[np.float64]


def auroc(familiar: Floats, strange: Floats) -> float:
    """Chance that a strange value is below a familiar one; ties count half."""
    below = (strange[:, None] < familiar[None, :]).mean()
    return float(below + 0.5 * (strange[:, None] == familiar[None, :]).mean())


def nearness(suite: RouterSuite, prompts: Sequence[str]) -> tuple[Floats, float]:
    found = [suite.score(p) for p in prompts]
    return np.array([e.nearness for e in found]), float(np.mean([e.is_far for e in found]))


def without_fallback(suite: RouterSuite, prompt: str) -> int:
    rows, weights = suite.perceptive.encoder.encode(prompt)
    return int(suite.perceptive.read(rows, weights).quality.argmax())


def mean_loss(suite: RouterSuite, data: RoutingData, *, falls_back: bool) -> float:
    losses = 1.0 - data.scores if data.losses is None else data.losses
    picks = [
        int(suite.score(p).quality.argmax()) if falls_back else without_fallback(suite, p)
        for p in data.prompts
    ]
    return float(losses[np.arange(len(picks)), picks].mean())


def leave_out(data: RoutingData, task: str) -> dict[str, object]:
    """Train without a task and meet its prompts."""
    train, held = data.training(), data.evaluation()
    kept = np.flatnonzero(np.array(train.tasks) != task)
    suite = train_suite(train.take(kept), pilots=PilotOptions())[0]
    is_strange = np.array(held.tasks) == task
    strange = held.take(np.flatnonzero(is_strange))
    familiar = held.take(np.flatnonzero(~is_strange))
    (near, far_inside), (away, far) = (nearness(suite, d.prompts) for d in (familiar, strange))
    return {
        "strange": f"{task}, left out",
        "auroc": round(auroc(near, away), 3),
        "far": round(far, 3),
        "far_inside": round(far_inside, 4),
        "loss_strange": round(mean_loss(suite, strange, falls_back=True), 4),
        "loss_strange_without": round(mean_loss(suite, strange, falls_back=False), 4),
        "loss_inside": round(mean_loss(suite, familiar, falls_back=True), 4),
        "loss_inside_without": round(mean_loss(suite, familiar, falls_back=False), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHIPPED)
    parser.add_argument("--others", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    data = read_routing_data(args.data)
    rows = [leave_out(data, task) for task in sorted(set(data.tasks))]
    suite = train_suite(data.training(), pilots=PilotOptions())[0]
    near, far_inside = nearness(suite, data.evaluation().prompts)
    for other in args.others:
        name, _, path = other.partition("=")
        prompts = read_prompts(Path(path)).prompts
        step = max(len(prompts) // _MOST_PROMPTS, 1)
        away, far = nearness(suite, prompts[::step])
        rows.append(
            {
                "strange": name,
                "auroc": round(auroc(near, away), 3),
                "far": round(far, 3),
                "far_inside": round(far_inside, 4),
            }
        )
    print(json.dumps(rows, indent=1) if args.json else "\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
