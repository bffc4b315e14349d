"""From a journal to the table that routers are trained on: a row where there is a score, else none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.collecting.journal import Journal
from gateway.collecting.matching import match
from gateway.collecting.prompts import Prompt

Scoring = Literal["reference", "loglik", "judge"]
#: A baseline is as good as itself.
_BASELINE_SCORE = 0.5


@dataclass(frozen=True, slots=True)
class Rule:
    """How answers are scored: ``match`` by which rule, and whom a judge holds them against."""

    scoring: Scoring
    match: str = "normalised"
    judge: str | None = None
    baseline: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One label. ``loss`` in nats per token where the score is a likelihood."""

    prompt: Prompt
    model: str
    score: float
    prompt_tokens: int | None
    completion_tokens: int | None
    loss: float | None = None


def rows(
    journal: Journal, prompts: Sequence[Prompt], models: Sequence[str], rule: Rule
) -> Iterator[Row]:
    """Every label that the journal gives; what failed or was not asked is missing, never 0."""
    for prompt in prompts:
        for model in models:
            row = _row(journal, prompt, model, rule)
            if row is not None:
                yield row


def write_rows(found: Sequence[Row]) -> bytes:
    """The table as Parquet; ``loss`` is a column only where there is one."""
    columns = {
        "prompt_id": pa.array([r.prompt.prompt_id for r in found], pa.string()),
        "source": pa.array([r.prompt.source for r in found], pa.string()),
        "task": pa.array([r.prompt.task for r in found], pa.string()),
        "prompt": pa.array([r.prompt.prompt for r in found], pa.string()),
        "model": pa.array([r.model for r in found], pa.string()),
        "score": pa.array([r.score for r in found], pa.float64()),
        "prompt_tokens": pa.array([r.prompt_tokens for r in found], pa.int64()),
        "completion_tokens": pa.array([r.completion_tokens for r in found], pa.int64()),
        "split": pa.array([r.prompt.split for r in found], pa.string()),
    }
    if any(r.loss is not None for r in found):
        columns["loss"] = pa.array([r.loss for r in found], pa.float64())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def _row(journal: Journal, prompt: Prompt, model: str, rule: Rule) -> Row | None:
    if rule.scoring == "loglik":
        likely = journal.likelihood(prompt.prompt_id, model)
        if likely is None or likely.loss is None:
            return None
        score, loss = exp(-likely.loss), likely.loss
        return Row(prompt, model, score, likely.prompt_tokens, likely.tokens, loss)
    answer = journal.answer(prompt.prompt_id, model)
    if answer is None or answer.text is None:
        return None
    if rule.scoring == "judge":
        found = _judged(journal, prompt, model, rule)
    else:
        found = match(rule.match, answer.text, prompt.references) if prompt.references else None
    if found is None:
        return None
    return Row(prompt, model, found, answer.prompt_tokens, answer.completion_tokens)


def _judged(journal: Journal, prompt: Prompt, model: str, rule: Rule) -> float | None:
    if model == rule.baseline:
        return _BASELINE_SCORE
    judged = journal.judged(prompt.prompt_id, model)
    if judged is None or (judged.judge, judged.baseline) != (rule.judge, rule.baseline):
        return None
    return judged.score
