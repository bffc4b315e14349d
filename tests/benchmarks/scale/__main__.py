"""python -m tests.benchmarks.scale [--measure N]

Writes the tables of docs/scale.md. ``--measure N`` first takes the figures anew, N rounds of two
minutes each, and keeps the least of each; it needs Linux, wrk, a C compiler and redis-server.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tests.benchmarks.scale.page import FIGURES, PAGE, page


def least(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure the least: what others on the machine do can only make it larger."""
    kept = {
        key: min(told[key] for told in rounds) if isinstance(value, float) else value
        for key, value in rounds[0].items()
    }
    return {"rounds": len(rounds), **kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="rounds to measure")
    count = parser.parse_args().measure
    if count:
        from tests.benchmarks.scale.measure import measure

        rounds = []
        for number in range(count):
            print(f"round {number + 1} of {count}", file=sys.stderr)
            rounds.append(measure())
        FIGURES.write_text(json.dumps(least(rounds), indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
