"""``thalamus-place TRACE --gpus G --out FILE``: solve, write the map, compare it with others."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from expert_placement import baselines
from expert_placement.simulate import simulate
from expert_placement.solve import place
from expert_placement.trace import read_trace, routing_of


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="thalamus-place", description=__doc__)
    parser.add_argument("trace", type=Path, help=".npz that THALAMUS_EXPERTS_TRACE recorded")
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="for THALAMUS_EXPERTS_PLACEMENT")
    parser.add_argument("--hidden", type=int, default=2048, help="values per token")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds")
    parser.add_argument("--slack", type=float, default=0.05, help="load allowed above the mean")
    asked = parser.parse_args(arguments)
    try:
        ids, experts = read_trace(asked.trace)
        half = len(ids) // 2  # placed on the first half, judged on the second
        routing = routing_of(ids[:half], experts)
        found = place(routing, asked.gpus, deadline_s=asked.deadline, slack=asked.slack)
    except (OSError, ValueError) as error:
        sys.exit(f"thalamus-place: {error}")
    shape = routing.layers, routing.experts, asked.gpus
    compared = {
        "linear": baselines.linear(*shape),
        "round_robin": baselines.round_robin(*shape),
        "vLLM's balancer": baselines.packed(routing.load, asked.gpus),
        "this": found.gpu_of,
    }
    print(f"{'placement':16} {'dispatch MB':>12} {'moves MB':>10} {'imbalance':>10}")
    for name, gpu_of in compared.items():
        cost = simulate(ids[half:], gpu_of, asked.gpus, asked.hidden)
        sizes = f"{cost.dispatch_bytes / 1e6:12.2f} {cost.move_bytes / 1e6:10.2f}"
        print(f"{name:16} {sizes} {cost.imbalance:10.3f}")
    print(
        f"{found.seconds:.1f} s; moves {found.crossing:,} on the first half, at least {found.bound:,} "
        f"in any placement: within {found.gap:.1%} of the optimum; "
        f"{found.integer_layers} of {routing.layers} layers improved by the integer program"
    )
    stored = {"gpus": asked.gpus, "physical_to_logical": found.physical_to_logical().tolist()}
    asked.out.write_text(json.dumps(stored) + "\n")


if __name__ == "__main__":
    main()
