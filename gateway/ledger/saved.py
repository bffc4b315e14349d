"""What routing saved, by the decision log: against the alternatives, with intervals, and checked.

Every alternative is compared with the router on the same requests. Costs are given twice: as predicted
for both, and as paid, where the predictions for the alternative are first set right by what the same
model's answers really cost. Qualities are predicted; where clients scored answers, the predictions are
held against the scores. Intervals are percentiles of a bootstrap over requests (Efron & Tibshirani,
chapter 13).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.ledger.decision_records import (
    DecisionRecord,
    FeedbackRecord,
    Record,
    replay_decision,
)
from gateway.ledger.savings import alternatives
from policies.types import Candidate

Vector = NDArray[np.float64]

RESAMPLES = 1_000
#: Requests are bundled into at most so many sums before they are drawn, so that a long log fits into
#: memory; sums of independent requests vary together as the requests do.
MAX_BUNDLES = 20_000
_AT_ONCE = 50
#: Answers of a model from which its own ratio of paid to predicted is taken; below it that of all.
ENOUGH_ANSWERS = 30


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; None where there is nothing to tell."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """What would have been without the router, on the ``requests`` where it could have answered.

    ``cost_usd`` and ``quality`` are means of what is predicted. ``saved_usd`` is what the router's
    choice was predicted to cost less, a request; ``saved_share`` the same as a share of the
    alternative's cost, and ``paid_share`` as paid. ``quality_difference`` is the router's quality
    less the alternative's, as predicted.
    """

    name: str
    requests: int
    cost_usd: float | None
    quality: float
    saved_usd: Estimate
    saved_share: Estimate
    paid_share: Estimate
    quality_difference: Estimate


@dataclass(frozen=True, slots=True)
class Check:
    """Predictions of one model held against what came: ``difference`` is the real less the predicted.

    Of cost, in USD a request that has a price; of quality, over answers that were scored.
    """

    model: str
    answers: int
    predicted: float
    realised: float
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Saved:
    """The report. ``left_out`` counts, by reason, the decisions that are compared with nothing."""

    decisions: int
    compared: int
    left_out: dict[str, int]
    first_at_s: float | None
    last_at_s: float | None
    confidence: float
    paid_usd: float
    cost_usd: float | None
    quality: float | None
    alternatives: tuple[Alternative, ...]
    cost_checks: tuple[Check, ...]
    quality_checks: tuple[Check, ...]


@dataclass(slots=True)
class _Request:
    """One comparable decision: who served, who could have, what it was paid."""

    served: Candidate
    pool: list[Candidate]
    paid_usd: float


def saved_by(records: Iterable[Record], confidence: float = 0.95, seed: int = 0) -> Saved:
    """Read a log and compare. Only answers that came whole count, and only where there was a choice."""
    requests: list[_Request] = []
    scores: dict[str, float] = {}
    predicted: dict[str, tuple[str, float]] = {}
    left_out: Counter[str] = Counter()
    times: list[float] = []
    paid_usd, decisions = 0.0, 0
    for record in records:
        if isinstance(record, FeedbackRecord):
            scores[record.request_id] = record.score
        if not isinstance(record, DecisionRecord):
            continue
        decisions += 1
        times = [min([record.at_s, *times[:1]]), max([record.at_s, *times[1:]])]
        paid_usd += record.cost_usd or 0.0
        served = _served(record)
        if served is not None and record.outcome == "ok":
            predicted[record.request_id] = (served.model, served.quality)
        found = _comparable(record, served)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            requests.append(found)
    draw = _Bootstrap(confidence, seed)
    costs = _Costs(requests)
    totals = draw.totals(costs.columns)
    return Saved(
        decisions=decisions,
        compared=len(requests),
        left_out=dict(left_out),
        first_at_s=times[0] if times else None,
        last_at_s=times[-1] if times else None,
        confidence=confidence,
        paid_usd=paid_usd,
        cost_usd=_mean([r.served.cost_usd for r in requests]),
        quality=_mean([r.served.quality for r in requests]),
        alternatives=tuple(costs.alternatives(totals, draw)),
        cost_checks=tuple(costs.checks(totals, draw)),
        quality_checks=tuple(_quality_checks(scores, predicted, confidence, seed)),
    )


def _served(record: DecisionRecord) -> Candidate | None:
    return next((c for c in record.candidates if c.model == record.served), None)


def _comparable(record: DecisionRecord, served: Candidate | None) -> _Request | str:
    """The request to compare, or why it is left out."""
    if record.flags.is_pinned:
        return "named their model"
    if record.first_try is not None:
        return "cascades"
    if record.outcome != "ok":
        return "failed or cancelled"
    pool = alternatives(replay_decision(record).evaluated)
    if served is None or served not in pool or len(pool) < 2:
        return "without a choice"
    if record.cost_usd is None or any(c.cost_usd is None for c in pool):
        return "with a model of unknown price"
    return _Request(served, pool, record.cost_usd)


class _Bootstrap:
    """Sums of columns over requests, and the same over each resample: row 0 is the log itself."""

    def __init__(self, confidence: float, seed: int) -> None:
        self._tails = (50 - 50 * confidence, 50 + 50 * confidence)
        self._seed = seed

    def totals(self, columns: Vector) -> Vector:
        """Sum every column of ``columns`` (requests, k): (resamples + 1, k)."""
        random = np.random.default_rng(self._seed)
        rows = [columns.sum(axis=0, keepdims=True)]
        for _ in range(RESAMPLES // _AT_ONCE):
            drawn = random.poisson(1.0, (_AT_ONCE, len(columns))).astype(np.float64)
            rows.append(drawn @ columns)
        return np.vstack(rows)

    def estimate(self, values: Vector) -> Estimate:
        """The value of the log with the percentiles of the resamples."""
        rest = values[1:][np.isfinite(values[1:])]
        if not np.isfinite(values[0]) or not rest.size:
            return Estimate(None, None, None)
        low, high = np.percentile(rest, self._tails)
        return Estimate(float(values[0]), float(low), float(high))


class _Costs:
    """The columns that everything is a ratio of sums of, and how to read them.

    For each alternative: how many requests it could have answered, its predicted cost and quality
    there, the router's there, what was paid there, and its predicted cost split by the model that
    it would have asked. For each model: what its answers were predicted to cost, and did cost.
    """

    def __init__(self, requests: Sequence[_Request]) -> None:
        self._models = sorted({c.model for r in requests for c in r.pool})
        fixed = [f"always {model}" for model in self._models]
        self._names = ["always-best", "always-cheapest", "random", *fixed]
        self._at = {model: i for i, model in enumerate(self._models)}
        self._width = 6 + len(self._models)
        self._checks_at = self._width * len(self._names)
        bundles = min(len(requests), MAX_BUNDLES)
        self.columns: Vector = np.zeros((bundles, self._checks_at + 3 * len(self._models)))
        for number, request in enumerate(requests):
            self._add(self.columns[number % bundles], request)

    def _add(self, row: Vector, request: _Request) -> None:
        served, pool = request.served, request.pool
        best = max(pool, key=lambda c: (c.quality, c.model))
        cheapest = min(pool, key=lambda c: (c.cost_usd or 0.0, c.model))
        choices: dict[str, list[Candidate]] = {
            "always-best": [best],
            "always-cheapest": [cheapest],
            "random": pool,
            **{f"always {c.model}": [c] for c in pool},
        }
        for number, name in enumerate(self._names):
            asked = choices.get(name)
            if asked is None:
                continue
            start = number * self._width
            row[start : start + 6] += (
                1.0,
                sum(c.cost_usd or 0.0 for c in asked) / len(asked),
                sum(c.quality for c in asked) / len(asked),
                served.cost_usd or 0.0,
                served.quality,
                request.paid_usd,
            )
            for candidate in asked:
                at = start + 6 + self._at[candidate.model]
                row[at] += (candidate.cost_usd or 0.0) / len(asked)
        at = self._checks_at + 3 * self._at[served.model]
        row[at : at + 3] += (1.0, served.cost_usd or 0.0, request.paid_usd)

    def alternatives(self, totals: Vector, draw: _Bootstrap) -> Iterable[Alternative]:
        ratios = self._paid_ratios(totals)
        for number, name in enumerate(self._names):
            start = number * self._width
            count, cost, quality, our_cost, our_quality, paid = totals[:, start : start + 6].T
            if not count[0]:
                continue
            by_model = totals[:, start + 6 : start + self._width]
            set_right = np.sum(by_model * ratios, axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                yield Alternative(
                    name=name,
                    requests=int(count[0]),
                    cost_usd=float(cost[0] / count[0]),
                    quality=float(quality[0] / count[0]),
                    saved_usd=draw.estimate((cost - our_cost) / count),
                    saved_share=draw.estimate(1 - our_cost / cost),
                    paid_share=draw.estimate(1 - paid / set_right),
                    quality_difference=draw.estimate((our_quality - quality) / count),
                )

    def _paid_ratios(self, totals: Vector) -> Vector:
        """Paid for each predicted dollar, (resamples + 1, models); of all where a model has few."""
        counts, predicted, paid = self._by_model(totals)
        with np.errstate(divide="ignore", invalid="ignore"):
            own = paid / predicted
            of_all = np.sum(paid, axis=1, keepdims=True) / np.sum(predicted, axis=1, keepdims=True)
        is_known = (counts[:1] >= ENOUGH_ANSWERS) & np.isfinite(own)
        return np.where(is_known, own, of_all)

    def _by_model(self, totals: Vector) -> tuple[Vector, Vector, Vector]:
        checks = totals[:, self._checks_at :]
        return checks[:, 0::3], checks[:, 1::3], checks[:, 2::3]

    def checks(self, totals: Vector, draw: _Bootstrap) -> Iterable[Check]:
        counts, predicted, paid = self._by_model(totals)
        for number, model in enumerate(self._models):
            if counts[0, number]:
                columns = (counts[:, number], predicted[:, number], paid[:, number])
                yield _check(model, columns, draw)


def _check(model: str, columns: tuple[Vector, Vector, Vector], draw: _Bootstrap) -> Check:
    counts, predicted, realised = columns
    with np.errstate(divide="ignore", invalid="ignore"):
        return Check(
            model=model,
            answers=int(counts[0]),
            predicted=float(predicted[0] / counts[0]),
            realised=float(realised[0] / counts[0]),
            difference=draw.estimate((realised - predicted) / counts),
        )


def _quality_checks(
    scores: dict[str, float],
    predicted: dict[str, tuple[str, float]],
    confidence: float,
    seed: int,
) -> Iterable[Check]:
    """Scores of each model's answers beside what was predicted of them."""
    by_model: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for request_id, score in scores.items():
        if request_id in predicted:
            model, quality = predicted[request_id]
            by_model[model].append((1.0, quality, score))
    for model, rows in sorted(by_model.items()):
        draw = _Bootstrap(confidence, seed)
        counts, expected, realised = draw.totals(np.array(rows)).T
        yield _check(model, (counts, expected, realised), draw)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
