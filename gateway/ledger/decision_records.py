"""The lines of the decision log: what each says, how it is written and how it is read back.

One JSON object a line. ``kind`` tells the record: a ``decision`` with every input of the choice and
what came of it, or ``feedback`` that a client gave later. Floats are written so that they read back
as the same bits; replaying a decision therefore makes the same choice (``replay_decision``).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Literal

import msgspec

from gateway.decision.arms import ShadowChoice
from gateway.decision.decide import RoutedDecision
from gateway.errors import LogUnreadable
from gateway.ledger.accounting import NANOS_PER_USD, LedgerRow, Spent
from gateway.ledger.log_days import log_files
from gateway.upstream.usage import TokenUsage
from policies.select import select
from policies.types import Candidate, Decision, Needs, Policy, RoutingFlags, Situation

#: Raised when a field changes its meaning; a reader refuses what it does not know.
FORMAT = 1


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """One decision, all it was made from, and how the request ended.

    ``flags`` are the request's own, which ``policy`` fills. ``chances`` tells how likely each model
    is chosen for these inputs: by ``policy``, and where a canary runs, over both arms;
    ``propensity`` is that of ``chosen``.
    ``served`` is the model that answered or was asked last; it differs from ``chosen`` after a
    fallback, and where the answer of a cascade's ``first_try`` was kept. ``cost_usd`` is the price
    of ``usage`` and of what was ``spent`` beside it by the list, None where no price is known.
    ``prompt`` is the human's question, written only where the configuration says so;
    ``max_output_tokens`` is the request's own limit.
    """

    format: int = FORMAT
    at_s: float
    request_id: str
    decision_id: str
    policy_version: str
    profile: str
    candidates: tuple[Candidate, ...]
    flags: RoutingFlags
    needs: Needs
    draw: float
    stay_with: str | None
    policy: Policy
    arm: Literal["live", "canary"]
    propensity: float
    chances: Mapping[str, float]
    shadow: ShadowChoice | None
    chosen: str
    order: tuple[str, ...]
    reason: str
    served: str
    backend: str
    outcome: Literal["ok", "cancelled", "error"]
    error_code: str | None
    attempts: int
    usage: TokenUsage
    cost_usd: float | None
    ttft_ms: float | None
    duration_ms: float
    is_fallback: bool = False
    first_try: str | None = None
    spent: tuple[Spent, ...] = ()
    prompt: str | None = None
    max_output_tokens: int | None = None


class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="feedback"):
    """What a client said of an answer: ``score`` in [0, 1]. The last one of a request counts."""

    format: int = FORMAT
    at_s: float
    request_id: str
    score: float
    comment: str | None = None


class LossRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="lost"):
    """Records that were not written because the disk did not keep up."""

    format: int = FORMAT
    at_s: float
    count: int


Record = DecisionRecord | FeedbackRecord | LossRecord

# Sorted, so that a set of capabilities is always the same text.
_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Record)


class LogReading:
    """The records of a log, in order; ``torn_lines`` numbers those that a kill left half-written.

    It can be iterated once or often, and each pass counts anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.torn_lines: list[int] = []

    def __iter__(self) -> Iterator[Record]:
        """Yield records.

        Raises LogUnreadable naming file and line for what is JSON but no record of ours.
        """
        self.torn_lines = []
        try:
            with self._path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    record = self._read(line, number) if line.strip() else None
                    if record is not None:
                        yield record
        except OSError as error:
            raise LogUnreadable(f"cannot read {self._path}: {error.strerror}") from error

    def _read(self, line: bytes, number: int) -> Record | None:
        try:
            record: Record = _decoder.decode(line)
        except msgspec.ValidationError as error:
            raise LogUnreadable(f"{self._path}, line {number}: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError):
            # A line cut short is never valid: it lacks the brace it began with.
            self.torn_lines.append(number)
            return None
        if record.format != FORMAT:
            raise LogUnreadable(
                f"{self._path}, line {number}: format {record.format}; this build reads {FORMAT}"
            )
        return record


def within_days(
    paths: Sequence[Path], since: datetime.date | None, until: datetime.date | None
) -> Iterator[Record]:
    """The records of several logs, UTC days from ``since`` to ``until``, both included.

    A log has the days with it that were set aside beside it.

    What is said of an answer later counts, whenever it was said. Raises LogUnreadable.
    """
    low = -inf if since is None else _start_s(since)
    high = inf if until is None else _start_s(until + datetime.timedelta(days=1))
    files = [file for path in paths for file in log_files(path) or [path]]
    for path in dict.fromkeys(files):
        for record in LogReading(path):
            if isinstance(record, FeedbackRecord) or low <= record.at_s < high:
                yield record


def _start_s(day: datetime.date) -> float:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()


def decision_record(
    decision: RoutedDecision,
    row: LedgerRow,
    prompt: str | None,
    max_output_tokens: int | None = None,
) -> DecisionRecord:
    """Join a decision's inputs with what came of it."""
    selected = decision.selected
    return DecisionRecord(
        at_s=row.at_s,
        request_id=row.request_id,
        decision_id=row.decision_id,
        policy_version=decision.policy_version,
        profile=row.profile,
        candidates=selected.situation.candidates,
        flags=selected.situation.flags,
        needs=selected.situation.needs,
        draw=selected.situation.draw,
        stay_with=selected.situation.stay_with,
        is_fallback=selected.situation.is_fallback,
        policy=selected.policy,
        arm=selected.arm,
        propensity=selected.chances[decision.plan.chosen],
        chances=selected.chances,
        shadow=selected.shadow,
        chosen=decision.plan.chosen,
        order=decision.plan.order,
        reason=decision.plan.reason,
        first_try=decision.plan.first_try,
        spent=row.spent,
        served=row.model,
        backend=row.backend,
        outcome=row.outcome,
        error_code=row.error_code,
        attempts=row.attempts,
        usage=row.usage,
        cost_usd=None if row.cost_nanos is None else row.cost_nanos / NANOS_PER_USD,
        ttft_ms=row.ttft_ms,
        duration_ms=row.duration_ms,
        prompt=prompt,
        max_output_tokens=max_output_tokens,
    )


def encode_record(record: Record) -> bytes:
    """One line, with its end."""
    return _encoder.encode(record) + b"\n"


def replay_decision(record: DecisionRecord) -> Decision:
    """Decide again from the logged inputs alone."""
    return select(situation_of(record), record.policy).decision


def situation_of(record: DecisionRecord) -> Situation:
    """The inputs of a logged choice."""
    return Situation(
        record.candidates,
        record.flags,
        record.needs,
        record.draw,
        record.stay_with,
        record.is_fallback,
    )
