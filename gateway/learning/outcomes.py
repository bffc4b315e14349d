"""What the decision log teaches: prompts, what was chosen and how likely it was, and the scores."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.ledger.decision_records import DecisionRecord, FeedbackRecord, LogReading
from gateway.ledger.log_days import log_files
from router_models.training.logged import LoggedScores

#: Requests that are learnt from, the latest ones: they are held in memory.
MOST_REQUESTS = 50_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request with its prompt; ``score`` is what a client gave its answer, None for nothing."""

    record: DecisionRecord
    prompt: str
    score: float | None

    @property
    def key(self) -> str:
        """A name of the prompt, the same wherever it is asked."""
        return hashlib.blake2b(self.prompt.encode("utf-8", "replace"), digest_size=8).hexdigest()

    @property
    def chance(self) -> float | None:
        """How likely the model that answered was to be chosen.

        None where nobody drew it: the caller named it, or it answered in place of the one chosen.
        """
        record = self.record
        if record.flags.is_pinned or record.first_try is not None:
            return None
        return record.propensity if record.served == record.chosen else None

    def is_held_out(self, share: float) -> bool:
        """Whether its prompt is one to judge on; the same in every round, for every request of it."""
        return int(self.key, 16) < share * 2.0**64


def read_outcomes(path: Path, most: int = MOST_REQUESTS) -> list[Outcome]:
    """Read the requests that were answered and whose prompts were kept, the oldest first.

    The last score of a request counts. Raises LogUnreadable.
    """
    records: deque[DecisionRecord] = deque(maxlen=most)
    scores: dict[str, float] = {}
    for record in _records(log_files(path)):
        if isinstance(record, FeedbackRecord):
            scores[record.request_id] = record.score
        elif isinstance(record, DecisionRecord) and record.outcome == "ok" and record.prompt:
            records.append(record)
    return [Outcome(r, r.prompt, scores.get(r.request_id)) for r in records if r.prompt]


def logged_scores(outcomes: Iterable[Outcome]) -> LoggedScores:
    """Lay scored requests out as training takes them; others are left out."""
    scored = [(o, o.score) for o in outcomes if o.score is not None]
    prompts = tuple(dict.fromkeys(o.prompt for o, _ in scored))
    models = tuple(sorted({o.record.served for o, _ in scored}))
    place, column = _places(prompts), _places(models)
    chances = [o.chance for o, _ in scored]
    tokens = [o.record.usage.completion_tokens for o, _ in scored]
    return LoggedScores(
        prompts=prompts,
        models=models,
        prompt_of=np.array([place[o.prompt] for o, _ in scored], np.int64),
        model_of=np.array([column[o.record.served] for o, _ in scored], np.int64),
        scores=np.array([score for _, score in scored], np.float64),
        chances=np.array([np.nan if c is None else c for c in chances], np.float64),
        completion_tokens=np.array([t or np.nan for t in tokens], np.float64),
    )


def _records(files: Sequence[Path]) -> Iterator[object]:
    for file in files:
        yield from LogReading(file)


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}
