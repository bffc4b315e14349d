"""Is one router better than another? Estimated on prompts that neither was trained on.

On logged traffic by the doubly robust estimate (Dudík et al., arXiv 1103.4601), on measured outcomes
directly. Both routers decide for the same requests, so the interval is of the paired difference; it
is bootstrapped over prompts, which keeps repeated ones together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.learning.outcomes import Outcome
from gateway.learning.replayed import Chooser
from gateway.learning.versions import Measures
from policies.off_policy import Interval
from router_models.evaluation.baselines import pick_highest
from router_models.evaluation.bootstrap import Resamples
from router_models.evaluation.predictions import predict_all
from router_models.training.dataset import RoutingData
from router_models.training.logged import PROMPT_PRIOR
from router_models.types import Router

Vector = NDArray[np.float64]

#: Fewer effective requests than this say nothing, whatever their interval.
FEW_REQUESTS = 25.0
#: Most of a router's choices that the log could never have made; of them it tells nothing.
MOST_UNSUPPORTED = 0.1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one source says of a candidate against the router in force.

    ``value`` of a choice is the answer's score less what the request's weights charge for it.
    ``effective`` is the number of unweighted requests that would say as much (Kish), ``unsupported``
    the share of the candidate's choices that the log could never have made, ``agreement`` the share
    on which both choose alike.
    """

    source: Literal["log", "measured"]
    requests: int
    effective: float
    unsupported: float
    agreement: float
    difference: Interval
    routed_quality: float
    best_single: float | None

    @property
    def is_enough(self) -> bool:
        return self.effective >= FEW_REQUESTS and self.unsupported <= MOST_UNSUPPORTED

    def measures(self) -> Measures:
        found = self.difference
        return Measures(self.routed_quality, self.best_single, found.value, found.low, found.high)

    def told(self) -> str:
        """One phrase for a person."""
        found = self.difference
        said = f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        if self.source == "measured":
            return f"{said} on {self.requests} measured prompts"
        return f"{said} on {self.requests} scored requests"


@dataclass(frozen=True, slots=True)
class _Case:
    """One scored request: its prompt, what was asked and scored, and what both routers choose."""

    key: str
    asked: str
    chance: float
    score: float
    expected: dict[str, float]
    candidate: str
    current: str
    charged: float
    is_supported: bool
    hardness: float = 0.0

    @property
    def error(self) -> float:
        """How far the score is from what was expected of the model that was asked."""
        return self.score - self.expected[self.asked]

    def worth(self, model: str) -> float:
        """Doubly robust: what is expected of the model, and the error of that if it was asked."""
        worth = self.expected[model] + self.hardness
        if model == self.asked:
            worth += (self.score - worth) / self.chance
        return worth


def judge_on_log(
    outcomes: Sequence[Outcome], candidate: Chooser, current: Chooser, confidence: float
) -> Evidence | None:
    """Compare on scored requests whose chances are known; None where there are none.

    ``outcomes`` must hold no prompt that the candidate was trained on: what it predicts of them
    serves as the expectation that the scores correct.
    """
    found = [c for o in outcomes if (c := _case(o, candidate, current)) is not None]
    if not found:
        return None
    cases = _with_hardness(found)
    weights = np.array([(c.candidate == c.asked) / c.chance for c in cases])
    squares = float(np.square(weights).sum())
    gains = np.array([c.worth(c.candidate) - c.worth(c.current) - c.charged for c in cases])
    worth = np.array([c.worth(c.candidate) for c in cases])
    models = set.intersection(*(set(c.expected) for c in cases))
    singles = [float(np.mean([c.worth(model) for c in cases])) for model in sorted(models)]
    keys = np.unique([c.key for c in cases], return_inverse=True)[1]
    return Evidence(
        source="log",
        requests=len(cases),
        effective=float(weights.sum()) ** 2 / squares if squares else 0.0,
        unsupported=float(np.mean([not c.is_supported for c in cases])),
        agreement=float(np.mean([c.candidate == c.current for c in cases])),
        difference=_interval(gains, keys, confidence),
        routed_quality=float(worth.mean()),
        best_single=max(singles, default=None),
    )


def judge_on_measured(
    data: RoutingData, candidate: Router, current: Router | None, confidence: float
) -> Evidence | None:
    """Compare on prompts where models were measured; None where a router is unknown to them.

    Without a ``current`` router the candidate is held against the best single model.
    """
    picks = _picks(data, candidate)
    rows = ~np.isnan(data.scores).all(axis=1)
    if picks is None or not rows.any():
        return None
    mean = np.nanmean(data.scores[rows], axis=0)
    single = pick_highest(np.broadcast_to(mean, data.scores.shape), data.scores)
    other = single if current is None else _picks(data, current)
    if other is None:
        return None
    scores = np.nan_to_num(data.scores)
    routed, held_against = (scores * picks).sum(axis=1)[rows], (scores * other).sum(axis=1)[rows]
    return Evidence(
        source="measured",
        requests=int(rows.sum()),
        effective=float(rows.sum()),
        unsupported=0.0,
        agreement=float((picks == other).all(axis=1)[rows].mean()),
        difference=_interval(routed - held_against, np.arange(int(rows.sum())), confidence),
        routed_quality=float(routed.mean()),
        best_single=float(np.nanmax(mean)),
    )


def _picks(data: RoutingData, router: Router) -> NDArray[np.float64] | None:
    """The measured model that a router likes best, as shares; None where it knows too few."""
    if len({*router.models} & {*data.models}) < 2:
        return None
    quality = predict_all(router, data.prompts).quality
    liked = np.full(data.scores.shape, -np.inf)
    for column, model in enumerate(data.models):
        if model in router.models:
            liked[:, column] = quality[:, router.models.index(model)]
    return pick_highest(liked, data.scores)


def _case(outcome: Outcome, candidate: Chooser, current: Chooser) -> _Case | None:
    chance = outcome.chance
    if outcome.score is None or chance is None:
        return None
    chosen, was = candidate(outcome), current(outcome)
    if chosen is None or was is None:  # nobody is feasible for one of them
        return None
    return _Case(
        key=outcome.key,
        asked=outcome.record.chosen,
        chance=chance,
        score=outcome.score,
        expected=chosen.expected,
        candidate=chosen.model,
        current=was.model,
        charged=chosen.charged - was.charged,
        is_supported=bool(outcome.record.chances.get(chosen.model)),
    )


def _with_hardness(cases: Sequence[_Case]) -> list[_Case]:
    """Expect of every request, too, what the prompt's other requests tell of how hard it is.

    That leaves smaller errors to be divided by chances, and no score explains itself.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter(case.key for case in cases)
    for case in cases:
        sums[case.key] += case.error
    return [
        replace(
            case, hardness=(sums[case.key] - case.error) / (counts[case.key] - 1 + PROMPT_PRIOR)
        )
        for case in cases
    ]


def _interval(values: Vector, groups: NDArray[np.int64], confidence: float) -> Interval:
    """The mean and its percentile interval, resampling whole groups."""
    count = int(groups.max()) + 1
    sums = np.zeros((count, 2))
    np.add.at(sums, groups, np.column_stack([values, np.ones_like(values)]))
    totals = Resamples.draw(count, seed=0).sums(sums)
    means = totals[:, 0] / np.maximum(totals[:, 1], 1.0)
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(means[1:], (tail, 100 - tail))
    return Interval(float(means[0]), float(low), float(high))
