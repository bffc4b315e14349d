"""What each weight λ buys: mean score against the mean of one cost while λ grows, beside mixing.

    python -m tests.benchmarks.lambda_sweep [--outcomes DIR] [--figure docs/images/lambda.svg]

For every goal the weight of that goal alone grows from 0, ``policies.choose`` decides for every
held-out prompt from what the trained router predicts, and the mean score and mean cost come from
the measured outcomes. Random mixing of single models reaches every point of the upper hull of their
(cost, score) points and none above it, so a curve above the hull owes its height to the choice per
prompt. The least and the mean distance to the hull are given with 95 % intervals (1,000 resamples
of the prompts, paired).

Sizes are measured. Prices and times of the experts are stated, not measured: a price in proportion
to the parameters that compute a token, a time in proportion to the layers. Release days, security
levels and readability are declared by a seeded draw. ``--outcomes`` adds published outcomes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policies import choose
from policies.types import Candidate, Needs, RoutingFlags
from router_models.evaluation.predictions import Predictions, predict_all
from router_models.experts.members import read_members
from router_models.training.dataset import RoutingData, read_routing_data
from router_models.training.train import train
from tests.benchmarks.panels import Panel, panels_svg

Matrix = NDArray[np.float64]

DATASETS = Path("router_models/datasets")
WEIGHTS = (0.0, *np.geomspace(0.003, 30.0, 36).tolist())
RESAMPLES = 1_000
#: Billions of parameters of RouterDC's seven models, by a part of their names.
LLAMA3_B, MISTRAL_B = 8.03, 7.24


@dataclass(frozen=True)
class Case:
    """One goal on one table of outcomes. ``costs`` are what each choice turned out to cost."""

    name: str
    goal: str
    scores: Matrix
    costs: Matrix
    candidates: list[list[Candidate]]


@dataclass(frozen=True)
class Sweep:
    """Points are (mean cost, mean score), costs as a share of the range of the single models."""

    case: Case
    curve: list[tuple[float, float]]
    singles: list[tuple[float, float]]
    mixtures: list[tuple[float, float]]
    least: tuple[float, float, float]
    mean: tuple[float, float, float]


def sweep(case: Case) -> Sweep:
    flags = [RoutingFlags(weights={case.goal: weight}) for weight in WEIGHTS]
    names = [c.model for c in case.candidates[0]]
    picks = np.array(
        [
            [names.index(choose(pool, wish, Needs()).chosen) for pool in case.candidates]
            for wish in flags
        ]
    )
    rows = np.arange(len(case.candidates))
    low, high = case.costs.mean(axis=0).min(), case.costs.mean(axis=0).max()
    costs = (case.costs - low) / (high - low)
    random = np.random.default_rng(0)
    gains = []
    for resample in range(RESAMPLES + 1):
        taken = rows if resample == 0 else random.integers(0, len(rows), len(rows))
        score = case.scores[taken, picks[:, taken]].mean(axis=1)
        cost = costs[taken, picks[:, taken]].mean(axis=1)
        hull = best_mix(costs[taken].mean(axis=0), case.scores[taken].mean(axis=0))
        gains.append(score - np.array([hull(c) for c in cost]))
        if resample == 0:
            curve = list(zip(cost.tolist(), score.tolist(), strict=True))
    singles = zip(costs.mean(axis=0).tolist(), case.scores.mean(axis=0).tolist(), strict=True)
    found = np.array(gains)
    hull = best_mix(costs.mean(axis=0), case.scores.mean(axis=0))
    return Sweep(
        case,
        curve,
        list(singles),
        [(x, hull(x)) for x in np.linspace(0, 1, 41).tolist()],
        _interval(found.min(axis=1)),
        _interval(found.mean(axis=1)),
    )


def _interval(values: Matrix) -> tuple[float, float, float]:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return float(values[0]), float(low), float(high)


def best_mix(costs: Matrix, scores: Matrix) -> Callable[[float], float]:
    """The best mean score that random mixing of the models reaches at a mean cost or below it."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(zip(costs.tolist(), scores.tolist(), strict=True)):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-2], (x, y)):
            hull.pop()
        hull.append((x, y))
    xs, ys = zip(*hull, strict=True)
    return lambda cost: float(np.interp(cost, xs, ys))


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / max(b[0] - a[0], 1e-12)


def candidates_of(
    predicted: Predictions, models: tuple[str, ...], **said: Matrix
) -> list[list[Candidate]]:
    """One pool per prompt: what is predicted, and beside it attributes of shape (prompts, models)."""
    prompts = len(predicted.quality)
    plain = {name: np.broadcast_to(values, (prompts, len(models))) for name, values in said.items()}
    return [
        [
            replace(
                Candidate(model, float(predicted.quality[row, m]), 0.0, 1.0, None, 1.0, None, None),
                **{name: float(values[row, m]) for name, values in plain.items()},
            )
            for m, model in enumerate(models)
        ]
        for row in range(prompts)
    ]


def expert_cases() -> Iterator[Case]:
    """Eleven experts: quality is what the router predicts of the likelihood of the reference."""
    data = read_routing_data(DATASETS / "eleven_experts.parquet")
    members = {m.model: m for m in read_members(DATASETS / "eleven_experts.json").members}
    router, held_out = train(data)[0], data.evaluation()
    predicted = predict_all(router, held_out.prompts)
    size = np.array([members[m].size_mb for m in router.models])
    layers = np.array([float(members[m].layers) for m in router.models])
    drawn = np.random.default_rng(7)
    tokens = held_out.prompt_tokens[:, None] + predicted.output_tokens
    declared = {
        "cost": ("cost_usd", size * tokens * 1e-9),
        "latency": ("latency_ms", layers * predicted.output_tokens),
        "size": ("parameters_b", size),
        "recency": ("released_day", drawn.permutation(len(size)).astype(float)),
        "security": ("security_level", drawn.integers(0, 4, len(size)).astype(float)),
        "readability": ("readability", drawn.random(len(size))),
    }
    order = [data.models.index(m) for m in router.models]
    for goal, (attribute, values) in declared.items():
        sign = -1.0 if goal in {"recency", "security", "readability"} else 1.0
        costs = np.broadcast_to(sign * values, predicted.quality.shape)
        pools = candidates_of(predicted, router.models, **{attribute: values})
        yield Case("eleven experts", goal, held_out.scores[:, order], costs, pools)


def published_cases(folder: Path) -> Iterator[Case]:
    """MMLU and GSM8K: calls of the strong model; AlpacaEval: words; RouterDC: parameters."""
    for name, file in (("MMLU", "routellm_mmlu"), ("GSM8K", "routellm_gsm8k")):
        data = read_routing_data(folder / f"{file}.parquet")
        is_strong = np.array([float("gpt-4" in m) for m in data.models])
        yield _published(name, "cost", data, "cost_usd", is_strong)
    data = read_routing_data(folder / "alpaca_eval.parquet")
    yield _published("AlpacaEval", "verbosity", data, "output_tokens", None)
    data = read_routing_data(folder / "routerdc.parquet")
    billions = np.array([LLAMA3_B if "llama" in m.lower() else MISTRAL_B for m in data.models])
    yield _published("RouterDC", "size", data, "parameters_b", billions)


def _published(
    name: str, goal: str, data: RoutingData, attribute: str, values: Matrix | None
) -> Case:
    router, held_out = train(data)[0], data.evaluation()
    order = [data.models.index(m) for m in router.models]
    measured = ~np.isnan(held_out.scores).any(axis=1)
    if values is None:
        measured &= ~np.isnan(held_out.completion_tokens).any(axis=1)
    held_out = held_out.take(np.flatnonzero(measured))
    predicted = predict_all(router, held_out.prompts)
    if values is None:
        said, costs = predicted.output_tokens, held_out.completion_tokens[:, order]
    else:
        said = values[order]
        costs = np.broadcast_to(said, predicted.quality.shape)
    pools = candidates_of(predicted, router.models, **{attribute: said})
    return Case(name, goal, held_out.scores[:, order], np.array(costs), pools)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", type=Path, help="folder with the published outcomes")
    parser.add_argument("--figure", type=Path, help="write the curves there, as SVG")
    args = parser.parse_args()
    cases = [*expert_cases(), *(published_cases(args.outcomes) if args.outcomes else ())]
    panels = []
    print(
        "| outcomes | λ of | prompts | least gain over mixing | mean gain |\n|---|---|---|---|---|"
    )
    for case in cases:
        found = sweep(case)
        shown = [
            f"{v:+.4f} [{low:+.4f}, {high:+.4f}]" for v, low, high in (found.least, found.mean)
        ]
        rows = len(case.candidates)
        print(f"| {case.name} | {case.goal} | {rows} | {shown[0]} | {shown[1]} |", flush=True)
        title = f"{case.name}: {case.goal}"
        panels.append(Panel(title, found.curve, found.mixtures, found.singles))
    if args.figure:
        args.figure.write_text(panels_svg(panels, "mean cost, as a share", "mean score"))


if __name__ == "__main__":
    main()
