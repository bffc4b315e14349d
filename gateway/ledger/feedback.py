"""What clients say of answers: written to the decision log, and held against what was predicted."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.errors import NotFound, quoted
from gateway.ledger.accounting import LedgerRow
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.decision_records import FeedbackRecord
from gateway.telemetry.metrics import Metrics

#: Answers that feedback can be held against; of older ones it is written and nothing more.
MAX_REMEMBERED = 20_000


@dataclass(slots=True)
class _Answer:
    principal: str
    model: str
    predicted: float
    score: float | None = None


@dataclass(slots=True)
class _Sums:
    count: int = 0
    predicted: float = 0.0
    scores: float = 0.0


@dataclass(slots=True)
class Feedback:
    """One process's answers and their scores. The last score of a request counts."""

    log: DecisionLog
    clock: Clock
    metrics: Metrics
    _answers: OrderedDict[str, _Answer] = field(default_factory=OrderedDict)
    _sums: defaultdict[str, _Sums] = field(default_factory=lambda: defaultdict(_Sums))

    def note(self, row: LedgerRow) -> None:
        """Remember an answer."""
        self._answers[row.request_id] = _Answer(row.principal, row.model, row.predicted_quality)
        if len(self._answers) > MAX_REMEMBERED:
            self._answers.popitem(last=False)

    def take(self, principal: str, request_id: str, score: float, comment: str | None) -> bool:
        """Write a score down, and tell whether its answer is remembered here.

        What another process answered, or this one long ago, is written all the same; the reader of
        the log joins it. Raises NotFound for an answer that was somebody else's.
        """
        answer = self._answers.get(request_id)
        if answer is not None and answer.principal != principal:
            raise NotFound(f"there is no request {quoted(request_id)}", param="request_id")
        self.log.append(
            FeedbackRecord(
                at_s=self.clock.wall_s(), request_id=request_id, score=score, comment=comment
            )
        )
        if answer is not None:
            self._compare(answer, score)
        return answer is not None

    def _compare(self, answer: _Answer, score: float) -> None:
        sums = self._sums[answer.model]
        if answer.score is None:
            sums.count += 1
            sums.predicted += answer.predicted
            self.metrics.judgements.note_first_score(answer.model, answer.predicted, score)
        else:
            sums.scores -= answer.score
        sums.scores += score
        answer.score = score
        error = abs(sums.predicted - sums.scores) / sums.count
        self.metrics.judgements.calibration_error.labels(answer.model).set(error)
