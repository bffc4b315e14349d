"""Predict how every model would answer, from one gather in one table of weights.

A prompt is encoded into a few rows of ``table``; their weighted sum gives, side by side, the
log-odds of its task, a correction of every model's outcome, and one of every answer's length:

    outcome(m) = mean(m) + Σ_task P(task | prompt) · offset(task, m) + correction(m)

The objective that uses these predictions is Tryage's (arXiv 2308.11601); knowing the task is most
of the gain of routing (arXiv 2608.23023), which is why it has a term of its own. It never chooses
a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder, Rows, Weights
from router_models.types import Estimates, Vector

Matrix = NDArray[np.float64]
Table = NDArray[np.float32]
Target = Literal["loss", "score"]

#: A prediction this close to 0 or 1 is bent so that it never reaches it: order is kept.
_MARGIN = 0.02
#: exp of more than this is no sensible number of tokens.
_MAX_LOG_TOKENS = 13.0


@dataclass(frozen=True, slots=True)
class Head:
    """What is predicted from the task alone: ``mean`` (models,) + posterior @ ``offsets``.

    ``offsets`` has shape (tasks, models); without tasks it is (0, models).
    """

    mean: Vector
    offsets: Matrix

    def predict(self, posterior: Matrix, correction: Matrix | float) -> Matrix:
        """Predict for posteriors of shape (..., tasks); the result has shape (..., models)."""
        return np.asarray(self.mean + posterior @ self.offsets + correction)


@dataclass(frozen=True, slots=True)
class PerceptiveRouter:
    """A trained router. Thread-safe: scoring reads and never writes.

    ``table`` has shape (encoder.rows, tasks + models) or, where answers' lengths are learnt from
    the text, (encoder.rows, tasks + 2 · models). ``task_bias`` has shape (tasks,). ``target`` names
    what ``outcome`` predicts: ``loss`` in nats per token (quality is exp(-loss)), or ``score``.
    ``error_low`` and ``error_high``, (models,), bound truth minus prediction. ``log_tokens``
    predicts the logarithm of an answer's length.
    """

    version: str
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    target: Target
    encoder: Encoder
    table: Table
    task_bias: Vector
    outcome: Head
    error_low: Vector
    error_high: Vector
    log_tokens: Head

    def score(self, prompt: str) -> Estimates:
        """Predict from the prompt's text; any string is answered, in time independent of length."""
        return self.read(*self.encoder.encode(prompt))

    def read(self, rows: Rows, weights: Weights) -> Estimates:
        """Predict from the encoded prompt."""
        sums = self._gather(rows, weights)
        posterior, outcome = self._predict(sums)
        log_tokens = self.log_tokens.predict(posterior, 0.0)
        known = len(self.tasks) + len(self.models)
        if sums.size > known:
            log_tokens += sums[known:]
        errors = np.stack([np.zeros_like(outcome), self.error_low, self.error_high])
        quality, *ends = to_quality(outcome + errors, self.target)
        return Estimates(
            models=self.models,
            quality=quality,
            quality_low=np.minimum(*ends),
            quality_high=np.maximum(*ends),
            output_tokens=np.exp(np.minimum(log_tokens, _MAX_LOG_TOKENS)),
        )

    def qualities(self, encoded: Sequence[tuple[Rows, Weights]]) -> Matrix:
        """Predict the quality alone of some encoded prompts, (prompts, models)."""
        sums = np.stack([self._gather(rows, weights) for rows, weights in encoded])
        return to_quality(self._predict(sums)[1], self.target)

    def perceive(self, prompt: str) -> dict[str, float]:
        """Return the probability of every task; empty where the router knows no tasks."""
        sums = self._gather(*self.encoder.encode(prompt))
        posterior = softmax(sums[: len(self.tasks)] + self.task_bias)
        return dict(zip(self.tasks, posterior.tolist(), strict=True))

    def _predict(self, sums: Matrix) -> tuple[Matrix, Matrix]:
        """Return the tasks' posterior, (..., tasks), and the outcomes, (..., models)."""
        tasks = len(self.tasks)
        posterior = softmax(sums[..., :tasks] + self.task_bias)
        correction = sums[..., tasks : tasks + len(self.models)]
        return posterior, self.outcome.predict(posterior, correction)

    def _gather(self, rows: Rows, weights: Weights) -> Vector:
        return np.asarray(weights @ self.table[rows], np.float64)


def softmax(logits: Matrix) -> Matrix:
    """Turn log-odds into probabilities along the last axis, which may be empty."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def to_quality(outcome: Matrix, target: Target) -> Matrix:
    """Turn predicted losses or scores into quality in [0, 1], keeping their order.

    A loss of L nats per token is exp(-L), the mean probability of a token. A score outside
    [0.02, 0.98] approaches 0 or 1 exponentially in place of being cut, which would tie models.
    """
    if target == "loss":
        return np.asarray(np.exp(-np.maximum(outcome, 0.0)))
    low = _MARGIN * np.exp(np.minimum(outcome - _MARGIN, 0.0) / _MARGIN)
    high = 1.0 - _MARGIN * np.exp(np.minimum(1.0 - _MARGIN - outcome, 0.0) / _MARGIN)
    return np.asarray(
        np.where(outcome < _MARGIN, low, np.where(outcome > 1.0 - _MARGIN, high, outcome))
    )
