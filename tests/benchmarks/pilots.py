"""Time of one query as a pilot library grows, exactly and through usearch's HNSW index.

    python -m tests.benchmarks.pilots [--json]

The pilots are mixtures of pairs of the shipped training prompts, so that they lie as real prompts
do; the queries are the shipped evaluation prompts. Medians of interleaved rounds, in microseconds of
one thread's CPU time, from the prompt's vector to every model's outcome. ``kept`` is the share of the
exact search's kernel weight that the index finds. Needs the extra ``pilots``; set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

import router_models
from router_models.artifact import DEFAULT, load_suite
from router_models.retriever.model import RetrieverRouter
from router_models.retriever.search import ExactSearch, GraphSearch, Search
from router_models.training.dataset import read_routing_data

SIZES = (64, 1_000, 10_000, 30_000, 100_000)
TARGET_US = 1_000.0
ROUNDS, QUERIES = 20, 40
MODELS = 50

Floats = NDArray[np.float32]


def directions(router: RetrieverRouter, prompts: tuple[str, ...]) -> Floats:
    return np.array([router.locate(*router.encoder.encode(p))[0] for p in prompts])


def grown(base: Floats, count: int, draw: np.random.Generator) -> Floats:
    """Pilots between and around pairs of real prompts, (count, dimensions), of length 1."""
    first, second = (base[draw.integers(len(base), size=count)] for _ in range(2))
    share = draw.random((count, 1), np.float32) * 0.3
    noise = draw.normal(size=first.shape).astype(np.float32) * np.float32(0.03)
    mixed = (1 - share) * first + share * second + noise
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


def query(search: Search, vector: Floats, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is measured: the search and the kernel average, as RetrieverRouter does them."""
    found, similar = search.nearest(vector)
    kernel = np.exp((similar.astype(np.float64) - 1.0) / 0.05)
    return np.asarray(kernel @ sums[found])


def measure() -> list[dict[str, float]]:
    router = load_suite(DEFAULT).retriever
    if router is None:
        raise SystemExit("the shipped artifact has no pilots")
    data = read_routing_data(
        Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"
    )
    draw = np.random.default_rng(0)
    base = directions(router, data.training().prompts)
    asked = directions(router, data.evaluation().prompts)[:QUERIES]
    rows = []
    for size in SIZES:
        centroids = grown(base, size, draw)
        sums = draw.random((size, 3 * MODELS))
        started_s = time.perf_counter()
        searches = {"exact": ExactSearch(centroids), "index": GraphSearch(centroids)}
        built_s = time.perf_counter() - started_s
        taken: dict[str, list[float]] = {name: [] for name in searches}
        for _ in range(ROUNDS):
            for name, search in searches.items():
                started_ns = time.thread_time_ns()
                for vector in asked:
                    query(search, vector, sums)
                taken[name].append((time.thread_time_ns() - started_ns) / len(asked) / 1e3)
        rows.append(
            {
                "pilots": size,
                "exact_us": round(median(taken["exact"]), 1),
                "index_us": round(median(taken["index"]), 1),
                "build_s": round(built_s, 2),
                "kept": round(kept(searches["exact"], searches["index"], asked), 4),
            }
        )
    return rows


def kept(exact: Search, index: Search, asked: Floats) -> float:
    shares = []
    for vector in asked:
        weights = [np.exp((s.nearest(vector)[1] - 1.0) / 0.05).sum() for s in (exact, index)]
        shares.append(weights[1] / weights[0])
    return float(np.mean(shares))


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
                "{pilots:>7} pilots: exact {exact_us:>6} µs, index {index_us:>6} µs, "
                "built in {build_s} s, kept {kept}".format(**row)
            )
    return int(min(rows[-1]["exact_us"], rows[-1]["index_us"]) > TARGET_US)


if __name__ == "__main__":
    sys.exit(main())
