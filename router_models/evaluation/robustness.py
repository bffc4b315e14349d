"""Whether a router keeps its choice when a prompt is written differently or tampered with.

RouterArena (arXiv 2510.00202) calls one minus the share of flips robustness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation import metrics
from router_models.evaluation.baselines import mean_measured, pick_highest
from router_models.evaluation.bootstrap import Interval, Resamples, interval_of
from router_models.evaluation.compare import losses_of, of_models
from router_models.evaluation.gadgets import Quality, Search, find_gadgets, random_prefixes, wins
from router_models.evaluation.gate import Gate, best_quality_gate, half_way_gate
from router_models.evaluation.perturb import KINDS, perturb
from router_models.evaluation.report import GadgetRow, Robustness, VariantRow
from router_models.training.dataset import TRAIN, RoutingData
from router_models.types import DataError, Router

Matrix = NDArray[np.float64]

#: More prompts than this say no more; they are drawn evenly from the file.
MAX_PROMPTS = 600


def assess_robustness(
    router: Router,
    data: RoutingData,
    *,
    split: str | None = None,
    search: Search | None = None,
    seed: int = 0,
) -> Robustness:
    """Perturb the evaluated prompts, and attack them with gadgets found on the other prompts.

    The strong model is the one with the highest mean score. The attacker's prompts are the training
    prompts, or a third of the evaluated ones, which then count no further, where there are none.
    Raises DataError when fewer than two of the router's models are in the data.
    """
    shared = [m for m in data.models if m in router.models]
    if len(shared) < 2:
        raise DataError(f"column 'model': two of {', '.join(router.models)} are needed")
    held_out = _spread(of_models(data.evaluation(split), shared))
    attackers, held_out = _attackers(data, held_out)
    columns = [router.models.index(m) for m in shared]

    def quality(prompts: Sequence[str]) -> Matrix:
        return np.array([router.score(prompt).quality[columns] for prompt in prompts])

    before = quality(held_out.prompts)
    gate = half_way_gate(before, int(mean_measured(-held_out.scores).argmin()))
    resamples = Resamples.draw(len(held_out.prompts), seed)
    rows = []
    for kind in KINDS:
        draw = Random(f"{seed}:{kind}")
        after = quality([perturb(prompt, kind, draw) for prompt in held_out.prompts])
        rows.append(_variant_row(kind, held_out, before, after, gate, resamples))
    search = search or Search()
    attack = _Attack(
        tuple(find_gadgets(quality, gate, attackers, search, seed)),
        tuple(random_prefixes(attackers, search, seed)),
    )
    gates = {"best": best_quality_gate(gate.column), "half": gate}
    attacked = tuple(
        _gadget_row(name, at, held_out, (before, quality), attack, seed)
        for name, at in gates.items()
    )
    return Robustness(len(held_out.prompts), tuple(rows), attacked)


@dataclass(frozen=True, slots=True)
class _Attack:
    gadgets: tuple[str, ...]
    random: tuple[str, ...]


def _gadget_row(
    name: str,
    gate: Gate,
    data: RoutingData,
    scored: tuple[Matrix, Quality],
    attack: _Attack,
    seed: int,
) -> GadgetRow:
    before, quality = scored
    kept = [p for p, up in zip(data.prompts, gate.escalates(before), strict=True) if not up]
    if not kept:
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        strong = data.models[gate.column]
        return GadgetRow(name, strong, len(attack.gadgets), 0, nothing, np.nan, np.nan, "")
    won = wins(quality, gate, attack.gadgets, kept)
    return GadgetRow(
        gate=name,
        strong=data.models[gate.column],
        gadgets=len(attack.gadgets),
        kept=len(kept),
        won=interval_of(Resamples.draw(len(kept), seed).means(won.mean(axis=0))),
        worst_won=float(won.mean(axis=1).max()),
        random_won=float(wins(quality, gate, attack.random, kept).mean()),
        example=attack.gadgets[int(won.mean(axis=1).argmax())],
    )


def _variant_row(
    kind: str, data: RoutingData, before: Matrix, after: Matrix, gate: Gate, resamples: Resamples
) -> VariantRow:
    losses = losses_of(data)
    picks = [pick_highest(quality, losses) for quality in (before, after)]
    change = metrics.expected(losses, picks[1]) - metrics.expected(losses, picks[0])
    same_best = before.argmax(axis=1) == after.argmax(axis=1)
    same_gate = gate.escalates(before) == gate.escalates(after)
    return VariantRow(
        kind,
        interval_of(resamples.means(same_best.astype(np.float64))),
        interval_of(resamples.means(same_gate.astype(np.float64))),
        interval_of(resamples.means(change)),
    )


def _spread(data: RoutingData) -> RoutingData:
    count = len(data.prompts)
    return data.take(np.linspace(0, count - 1, min(count, MAX_PROMPTS)).astype(np.int64))


def _attackers(data: RoutingData, held_out: RoutingData) -> tuple[tuple[str, ...], RoutingData]:
    if TRAIN in data.splits and TRAIN not in held_out.splits:
        return data.training().prompts, held_out
    third = len(held_out.prompts) // 3
    return held_out.prompts[:third], held_out.take(np.arange(third, len(held_out.prompts)))
