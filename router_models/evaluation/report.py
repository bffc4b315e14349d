"""What an evaluation says, as values that can be printed, plotted or written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from router_models.evaluation.bootstrap import Interval

ROUTER, BEST_SINGLE, PROMPT_ORACLE = "router", "best single", "prompt oracle"
TASK_ORACLE = "task oracle"


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """How one way of choosing does. ``below_best_single`` is loss saved, on the same prompts."""

    policy: str
    mean_score: Interval
    mean_loss: Interval
    optimal_strict: Interval
    optimal_any_tied: Interval
    optimal_argmax_score: Interval
    gap_closed: Interval
    regret: Interval
    below_best_single: Interval


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task. ``specialist`` is the model that is best on average on the task's prompts.

    ``picks_specialist`` is the share of those prompts where it truly is best on which the router
    picks it; ``traffic`` the router's share of prompts per model.
    """

    task: str
    prompts: int
    specialist: str
    picks_optimal: Interval
    picks_specialist: Interval
    mean_loss: Interval
    best_single_loss: float
    specialist_loss: float
    traffic: dict[str, float]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """How far predicted quality can be believed for one model.

    ``ece_perfect`` is the ECE that chance alone would give on so many prompts. ``coverage`` is the
    share of groups of 20 like prompts whose mean score lies inside the predicted interval; ``bins``
    holds (mean prediction, mean truth, prompts) of every bin that is not empty.
    """

    model: str
    prompts: int
    ece: Interval
    brier: Interval
    ece_perfect: float
    coverage: Interval
    bins: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True, slots=True)
class PairRow:
    """RouteLLM's metrics, where there are two models.

    CPT is given by its first crossing and, for comparison, as the published code computes it.
    ``curve`` is mean score against the share of prompts sent to the strong model.
    """

    policy: str
    weak: str
    strong: str
    apgr: Interval
    cpt50: Interval
    cpt80: Interval
    cpt50_compat: float
    cpt80_compat: float
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class CostPoint:
    """Mean outcome of one way of choosing at a mean cost; ``name`` is the model, or the weight."""

    name: str
    usd_per_1k: float
    mean_score: float
    mean_loss: float


@dataclass(frozen=True, slots=True)
class Frontier:
    """Quality against cost as the weight of cost rises, beside every single model and baseline.

    AUDC and QNC are UniRoute's, AIQ is RouterBench's in both normalisations; ``aiq_zero`` is that of
    mixing single models at random, which a router must exceed to be of use. The arena score and the
    three after it are RouterArena's, IBC is AutoMix's (against the cheapest model): all of the
    router without any weight on cost. ``cost_saved`` and ``performance_gain`` are LLMRouterBench's:
    the largest cut of cost at no less than the best single model's score, and the best score above it.
    """

    router: tuple[CostPoint, ...]
    singles: tuple[CostPoint, ...]
    baselines: tuple[CostPoint, ...]
    audc: Interval
    qnc_percent: Interval
    aiq_paper: Interval
    aiq_code: Interval
    aiq_zero: Interval
    arena_score: Interval
    cheapest_correct: Interval
    optimal_cost: Interval
    optimal_accuracy: Interval
    audc_half: Interval
    ibc: Interval
    cost_saved: Interval
    performance_gain: Interval


@dataclass(frozen=True, slots=True)
class VariantRow:
    """One kind of variant: the share of prompts that keep their choice.

    ``best`` is the choice of the best predicted quality; ``gate`` whether the prompt goes to the
    strong model where half of the prompts do. ``loss_change`` is what the flips of ``best`` cost.
    """

    kind: str
    stable_best: Interval
    stable_gate: Interval
    loss_change: Interval


@dataclass(frozen=True, slots=True)
class GadgetRow:
    """Wins of query-independent prefixes; ``kept`` prompts would not have gone to ``strong``.

    ``gate`` is ``best`` or ``half``: where the strong model is predicted to be the best, or where
    half of the prompts go to it. ``random_won`` is the same for as many prefixes of random words:
    what no search achieves.
    """

    gate: str
    strong: str
    gadgets: int
    kept: int
    won: Interval
    worst_won: float
    random_won: float
    example: str


@dataclass(frozen=True, slots=True)
class Robustness:
    """What rewriting and tampering do to the choices on ``prompts`` prompts."""

    prompts: int
    variants: tuple[VariantRow, ...]
    gadgets: tuple[GadgetRow, ...]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """All metrics of one router on one set of prompts; intervals are 95 %, bootstrapped.

    ``loss_unit`` says what a loss is. ``ignored_models`` are in the data but not in the router.
    ``best_single_from`` says which prompts chose the best single model. ``peers`` names the rows of
    published routers, fitted on ``peer_prompts`` training prompts of the same file; without any
    there are none. ``frontier`` needs prices; without them ``tokens`` is the same where every token
    costs one dollar a million, if the data tell how long answers were.
    """

    router_version: str
    data_sha256: str
    prompts: int
    models: tuple[str, ...]
    ignored_models: tuple[str, ...]
    loss_unit: str
    best_single: str
    best_single_from: str
    policies: tuple[PolicyRow, ...]
    tasks: tuple[TaskRow, ...]
    calibration: tuple[ModelRow, ...]
    peers: tuple[str, ...]
    peer_prompts: int
    pair: PairRow | None
    peer_pairs: tuple[PairRow, ...]
    frontier: Frontier | None
    tokens: Frontier | None = None
    robustness: Robustness | None = None

    def policy(self, name: str) -> PolicyRow:
        """Return the row of a policy by its name."""
        return next(row for row in self.policies if row.policy == name)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; what is not defined is None."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
