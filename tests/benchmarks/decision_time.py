"""CPU time of one decision: parse the flags, then choose, as the pipeline does after scoring.

    python -m tests.benchmarks.decision_time [--json]

Medians over interleaved rounds, in microseconds of one thread's CPU time. Exits with 1 when a row
misses its target. The rows differ in what the caller asks: nothing, two limits and two weights, or
every goal and every limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from random import Random
from statistics import median

from gateway.decision.flags import parse_flags, parse_model_name
from policies.select import select
from policies.types import GOALS, Candidate, Needs, Situation

#: Candidates -> microseconds, on one core.
TARGETS_US = {10: 60.0, 100: 300.0}
ROUNDS = 60
CALLS = {10: 40, 100: 6}
ASKED: dict[str, tuple[str, dict[str, object]]] = {
    "auto": ("auto", {}),
    "auto:balanced": ("auto:balanced", {}),
    "two limits, two weights": (
        "auto",
        {
            "routing": {
                "weights": {"cost": 0.3, "latency": 0.1},
                "min_quality": 0.2,
                "max_cost_usd": 0.05,
            }
        },
    ),
    "everything": (
        "auto",
        {
            "routing": {
                "objective": "balanced",
                "weights": dict.fromkeys(GOALS, 0.1),
                "min_quality": 0.05,
                "max_cost_usd": 0.09,
                "max_ttft_ms": 900.0,
                "max_latency_ms": 9_000.0,
                "models": {"deny": ["m0", "m1"]},
                "explain": "full",
                "session_id": "s",
            }
        },
    ),
}


def candidates(count: int, random: Random) -> tuple[Candidate, ...]:
    """A catalogue like a real one: every field known, quality and price loosely rising together."""
    pool = []
    for number in range(count):
        worth = random.random()
        pool.append(
            Candidate(
                model=f"m{number}",
                quality=min(1.0, max(0.0, worth + random.gauss(0, 0.15))),
                quality_low=0.0,
                quality_high=1.0,
                cost_usd=0.1 * worth * random.random(),
                output_tokens=random.uniform(50, 500),
                ttft_ms=random.uniform(50, 1_000),
                latency_ms=random.uniform(1_000, 10_000),
                context_tokens=32_768,
                parameters_b=200 * worth,
                released_day=random.randrange(19_000, 20_500),
                security_level=random.randrange(4),
                readability=random.random(),
                capabilities=frozenset({"tools", "json_schema"}),
            )
        )
    return tuple(pool)


def decide(asked: tuple[str, dict[str, object]], pool: tuple[Candidate, ...], needs: Needs) -> str:
    """What is measured."""
    model, body = asked
    parsed = parse_flags(parse_model_name(model), {}, body)
    return select(Situation(pool, parsed.flags, needs)).decision.chosen


def measure() -> list[dict[str, object]]:
    """Time every kind of request against every size of catalogue, interleaved."""
    random = Random(0)
    pools = {count: candidates(count, random) for count in TARGETS_US}
    needs = Needs(2_000, frozenset({"tools"}))
    cases = [(name, count) for count in TARGETS_US for name in ASKED]
    taken: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for name, count in cases:
            asked, pool, calls = ASKED[name], pools[count], CALLS[count]
            started_ns = time.thread_time_ns()
            for _ in range(calls):
                decide(asked, pool, needs)
            taken[name, count].append((time.thread_time_ns() - started_ns) / calls / 1e3)
    return [
        {
            "candidates": count,
            "asked": name,
            "median_us": round(median(taken[name, count]), 1),
            "target_us": TARGETS_US[count],
        }
        for name, count in cases
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
            print("{candidates:>4}  {asked:<24} {median_us:>7} µs of {target_us}".format(**row))
    return int(any(float(str(r["median_us"])) > float(str(r["target_us"])) for r in rows))


if __name__ == "__main__":
    sys.exit(main())
