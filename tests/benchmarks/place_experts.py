"""Placement of 48 layers × 128 experts on 8 GPUs: time, distance to the optimum, bytes between GPUs.

usage: python tests/benchmarks/place_experts.py, with ``deploy/placement`` installed. The trace is made:
16 topics with their own favourite experts in each layer, 8 of 128 a token.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

LAYERS, EXPERTS, CHOSEN, TOKENS, TOPICS, GPUS = 48, 128, 8, 4000, 16, 8


def synthetic(path: Path) -> None:
    """A trace of ``TOKENS`` tokens."""
    random = np.random.default_rng(0)
    topic = random.integers(0, TOPICS, TOKENS)
    taste = random.gumbel(size=(TOPICS, LAYERS, EXPERTS)) * 1.2
    ids = np.empty((TOKENS, LAYERS, CHOSEN), np.int16)
    for layer in range(LAYERS):
        scores = taste[topic, layer] + random.gumbel(size=(TOKENS, EXPERTS))
        ids[:, layer] = np.argsort(-scores, axis=1)[:, :CHOSEN]
    np.savez_compressed(path, ids=ids, experts=EXPERTS)


def run() -> None:
    from expert_placement.__main__ import main

    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.npz"
        synthetic(trace)
        main([str(trace), "--gpus", str(GPUS), "--out", f"{folder}/placement.json"])


if __name__ == "__main__":
    run()
