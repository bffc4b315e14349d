"""A decision log read as evidence: does it replay, and what would another policy have earned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger.decision_records import (
    DecisionRecord,
    FeedbackRecord,
    LogReading,
    LossRecord,
    replay_decision,
    situation_of,
)
from policies.off_policy import OffPolicyEstimate, Sample, estimate
from policies.select import select
from policies.types import Candidate, Infeasible, Policy


@dataclass(frozen=True, slots=True)
class Replay:
    """What a log says.

    ``changed`` lists the decisions that did not come out the same again; ``infeasible`` counts those
    for which the other policy finds nobody, which count for no estimate. Requests that named their
    model (``pinned``) are nobody's choice, and what comes of a cascade (``cascades``) is not the
    chosen model's alone: both are left out too.
    """

    decisions: int
    feedback: int
    pinned: int
    cascades: int
    infeasible: int
    lost: int
    torn_lines: tuple[int, ...]
    changed: tuple[str, ...]
    agreement: float | None
    quality: OffPolicyEstimate | None
    cost_usd: OffPolicyEstimate | None


@dataclass(frozen=True, slots=True)
class _Case:
    record: DecisionRecord
    target: dict[str, float]


def replay_log(path: Path, policy: Policy | None, confidence: float = 0.95) -> Replay:
    """Replay every decision of a log, and estimate ``policy`` on it where one is given.

    The reward of quality is the score that a client gave; requests without one say nothing of it.
    Raises LogUnreadable.
    """
    reading = LogReading(path)
    records: list[DecisionRecord] = []
    scores: dict[str, float] = {}
    lost = 0
    for record in reading:
        if isinstance(record, DecisionRecord):
            records.append(record)
        elif isinstance(record, FeedbackRecord):
            scores[record.request_id] = record.score
        elif isinstance(record, LossRecord):
            lost += record.count
    changed = tuple(r.decision_id for r in records if not _replays(r))
    free = [r for r in records if not r.flags.is_pinned]
    open_records = [r for r in free if r.first_try is None]
    cases = [] if policy is None else _cases(open_records, policy)
    return Replay(
        decisions=len(records),
        feedback=sum(r.request_id in scores for r in records),
        pinned=len(records) - len(free),
        cascades=len(free) - len(open_records),
        infeasible=0 if policy is None else len(open_records) - len(cases),
        lost=lost,
        torn_lines=tuple(reading.torn_lines),
        changed=changed,
        agreement=_agreement(cases),
        quality=_estimate(cases, lambda r: scores.get(r.request_id), _quality, confidence),
        cost_usd=_estimate(cases, lambda r: r.cost_usd, _cost, confidence),
    )


def _replays(record: DecisionRecord) -> bool:
    decision = replay_decision(record)
    return (
        decision.order == record.order
        and decision.reason == record.reason
        and decision.first_try == record.first_try
    )


def _cases(records: Iterable[DecisionRecord], policy: Policy) -> list[_Case]:
    cases = []
    for record in records:
        try:
            cases.append(_Case(record, select(situation_of(record), policy).chances))
        except Infeasible:
            continue
    return cases


def _agreement(cases: list[_Case]) -> float | None:
    if not cases:
        return None
    return sum(case.target.get(case.record.chosen, 0.0) for case in cases) / len(cases)


def _estimate(
    cases: list[_Case],
    reward: Callable[[DecisionRecord], float | None],
    predicted: Callable[[Candidate], float | None],
    confidence: float,
) -> OffPolicyEstimate | None:
    samples = []
    for case in cases:
        earned = reward(case.record)
        if earned is None:
            continue
        expected = {
            c.model: value for c in case.record.candidates if (value := predicted(c)) is not None
        }
        is_known = {case.record.chosen, *case.target} <= expected.keys()
        samples.append(
            Sample(
                chosen=case.record.chosen,
                reward=earned,
                logged=case.record.chances,
                target=case.target,
                predicted=expected if is_known else None,
            )
        )
    return estimate(samples, confidence) if samples else None


def _quality(candidate: Candidate) -> float | None:
    return candidate.quality


def _cost(candidate: Candidate) -> float | None:
    return candidate.cost_usd
