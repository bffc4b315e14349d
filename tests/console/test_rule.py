"""The rule by which the page foretells choices is the gateway's: both are asked the same, and agree."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policies import choose
from policies.objective import goal_costs
from policies.types import GOALS, Candidate, Infeasible, Needs, RoutingFlags
from tests.console.conftest import APP, NPM

pytestmark = [pytest.mark.console, pytest.mark.timeout(120)]

CASES = 2000
NODE = Path(sys.executable).with_name("node")
SCRIPT = """
import { readFileSync } from "node:fs";
const { weigh } = await import(process.argv[2]);
const cases = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(({ candidates, weights, limits }) =>
  weigh(candidates, weights, limits).map((entry) => [entry.candidate.model, entry.value]))));
"""


def some(rng: random.Random, value: float) -> float | None:
    """A value, or in one case of eight none; in one of four a round one, so that there are ties."""
    drawn = rng.random()
    return None if drawn < 0.125 else round(value, 1) if drawn < 0.375 else value


def pool(rng: random.Random) -> list[Candidate]:
    return [
        Candidate(
            f"m{n}",
            (quality := round(rng.random(), rng.choice((1, 4)))),
            max(0.0, quality - 0.1),
            min(1.0, quality + 0.1),
            some(rng, rng.random()),
            round(rng.uniform(1, 500)),
            some(rng, rng.uniform(1, 900)),
            some(rng, rng.uniform(1, 9000)),
            parameters_b=some(rng, rng.uniform(0.1, 70)),
            released_day=rng.choice((None, 20_000, 20_100, 20_300)),
            security_level=rng.choice((None, 1, 2, 3)),
            readability=some(rng, rng.random()),
        )
        for n in rng.sample(range(20), rng.randint(2, 7))
    ]


def flags(rng: random.Random) -> RoutingFlags:
    weights = {g: rng.choice((0.1, 0.5, 1.0, 100.0)) for g in GOALS if rng.random() < 0.3}
    limits: dict[str, float] = {}
    for name, most in (("max_cost_usd", 1), ("max_ttft_ms", 900), ("max_latency_ms", 9000)):
        if rng.random() < 0.25:
            limits[name] = rng.uniform(0, most)
    if rng.random() < 0.25:
        limits["min_quality"] = rng.random()
    return RoutingFlags(weights=weights, **limits)  # type: ignore[arg-type]


def told(candidate: Candidate) -> dict[str, Any]:
    """The part of ``POST /v1/route``'s answer that the page's rule looks at."""
    return {
        "model": candidate.model,
        "predicted_quality": candidate.quality,
        "predicted_cost_usd": candidate.cost_usd,
        "predicted_ttft_ms": candidate.ttft_ms,
        "predicted_latency_ms": candidate.latency_ms,
        "violations": [],
        "goal_costs": goal_costs(candidate),
    }


def test_the_page_and_the_gateway_choose_alike(app_modules: Path, tmp_path: Path) -> None:
    config = tmp_path / "plain.config.mjs"
    config.write_text("export default {};\n")
    built = subprocess.run(
        [
            *(app_modules / ".bin" / "vite", "build", "--ssr", "src/try/objective.ts"),
            *("--outDir", tmp_path / "built", "--logLevel", "warn", "--config", config),
        ],
        cwd=APP,
        env={**os.environ, "PATH": f"{NPM.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (rule,) = (tmp_path / "built").glob("objective.*js")
    script = tmp_path / "ask.mjs"
    script.write_text(SCRIPT)
    rng = random.Random(11)
    cases = [(pool(rng), flags(rng)) for _ in range(CASES)]
    question = [
        {
            "candidates": list(map(told, candidates)),
            "weights": asked.weights,
            "limits": {
                name: limit
                for name in ("max_cost_usd", "max_ttft_ms", "max_latency_ms", "min_quality")
                if (limit := getattr(asked, name)) is not None
            },
        }
        for candidates, asked in cases
    ]
    answered = subprocess.run(
        [NODE, script, rule],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    nobody = 0
    for (candidates, asked), theirs in zip(cases, json.loads(answered.stdout), strict=True):
        try:
            ours = choose(candidates, asked, Needs())
        except Infeasible:
            assert theirs == []
            nobody += 1
            continue
        assert [model for model, _ in theirs] == list(ours.order)
        values = {e.candidate.model: e.objective_value for e in ours.evaluated if e.is_feasible}
        assert dict(theirs) == pytest.approx(values)
    assert CASES // 20 < nobody < CASES // 2, "both outcomes were drawn"
