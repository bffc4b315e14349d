"""Learn which task a prompt belongs to: multinomial logistic regression on prompts and pieces.

Measured prompts of one task often share their length and an opening phrase, which a classifier
would gladly use instead of their words. Pieces of every prompt teach it to do without.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder
from router_models.perceptive.model import softmax
from router_models.training.minimise import Flat, minimise
from router_models.training.sparse import Floats, Indices, SparseRows, encode_all

Matrix = NDArray[np.float64]

#: Pieces cut from every prompt, and the number of texts beyond which there are fewer.
_PIECES = 7
_MAX_TEXTS = 10_000
_PIECE_WORDS = (3, 30)
_WORD = re.compile(r"\S+")
#: Temperatures that out-of-fold log-odds are tried at; the best one is folded into the weights.
_TEMPERATURES = np.geomspace(0.25, 4.0, 33)


@dataclass(frozen=True, slots=True)
class TaskWeights:
    """``softmax(x @ weights + bias)``: weights of shape (columns, tasks), bias (tasks,).

    The bias is the logarithm of the tasks' shares and is not fitted: a prompt of which nothing is
    known has the tasks' own odds.
    """

    weights: Floats
    bias: Floats

    def logits(self, x: SparseRows) -> Matrix:
        """Return the log-odds of every task, shape (rows, tasks)."""
        return x.times(self.weights).astype(np.float64) + self.bias


@dataclass(frozen=True, slots=True)
class TaskFit:
    """The classifier, and what it said of every prompt while that prompt was held out.

    ``posterior`` has shape (prompts, tasks); ``accuracy`` is None where there are no tasks.
    """

    weights: TaskWeights
    posterior: Matrix
    temperature: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """Prompts with the index of their task and of the fold that holds them out, (prompts,)."""

    prompts: Sequence[str]
    labels: Indices
    folds: Indices
    tasks: int


def fit_task_posterior(
    encoder: Encoder,
    data: Labelled,
    *,
    penalty: float,
    seed: int,
    progress: Callable[[int], None],
) -> TaskFit:
    """Fit on all prompts, and once without every fold; ``progress`` is told the fold."""
    prompts, labels, folds, tasks = data.prompts, data.labels, data.folds, data.tasks
    if not tasks:
        nothing = TaskWeights(np.zeros((encoder.rows, 0), np.float32), np.zeros(0, np.float32))
        return TaskFit(nothing, np.zeros((len(prompts), 0)), 1.0, None)
    texts, source = _with_pieces(prompts, seed)
    x = encode_all(encoder, texts)
    text_labels, text_folds = labels[source], folds[source]
    logits = np.zeros((len(texts), tasks))
    for fold in np.unique(folds):
        progress(int(fold))
        held = np.flatnonzero(text_folds == fold)
        rest = np.flatnonzero(text_folds != fold)
        fitted = fit_tasks(x.take(rest), text_labels[rest], tasks, penalty)
        logits[held] = fitted.logits(x.take(held))
    fitted = fit_tasks(x, text_labels, tasks, penalty)
    shares = fitted.bias.astype(np.float64)
    temperature = _best_temperature(logits - shares, shares, text_labels)
    # Whole prompts stand before their pieces.
    posterior = softmax((logits[: len(prompts)] - shares) / temperature + shares)
    accuracy = float((posterior.argmax(axis=1) == labels).mean())
    scaled = TaskWeights(fitted.weights / np.float32(temperature), fitted.bias)
    return TaskFit(scaled, posterior, temperature, accuracy)


def fit_tasks(x: SparseRows, labels: Indices, tasks: int, penalty: float) -> TaskWeights:
    """Minimise mean cross-entropy + penalty/2 · |weights|²; ``labels`` has shape (rows,)."""
    rows, columns = x.shape
    by_column = x.transposed()
    truth = np.zeros((rows, tasks), np.float32)
    truth[np.arange(rows), labels] = 1.0
    # A task that this fold never shows gets the odds of half a prompt.
    bias = np.log(np.maximum(truth.mean(axis=0), 0.5 / rows))

    def objective(flat: Flat) -> tuple[float, Flat]:
        weights = flat.reshape(columns, tasks)
        probabilities = softmax(x.times(weights).astype(np.float64) + bias)
        loss = -np.log(np.maximum(probabilities[np.arange(rows), labels], 1e-12)).mean()
        loss += 0.5 * penalty * float(np.square(weights, dtype=np.float64).sum())
        errors = ((probabilities - truth) / rows).astype(np.float32)
        slope = by_column.times(errors) + np.float32(penalty) * weights
        return float(loss), slope.ravel()

    start = np.zeros(columns * tasks, np.float32)
    return TaskWeights(minimise(objective, start).reshape(columns, tasks), bias)


def _with_pieces(prompts: Sequence[str], seed: int) -> tuple[list[str], Indices]:
    """Return the prompts and then pieces of them, and the prompt that each text is from."""
    pieces = min(_PIECES, max(_MAX_TEXTS // len(prompts) - 1, 0))
    draw = np.random.default_rng(seed)
    texts, source = list(prompts), list(range(len(prompts)))
    low, high = np.log(_PIECE_WORDS)
    for number, prompt in enumerate(prompts):
        words = [word.span() for word in _WORD.finditer(prompt)]
        for _ in range(pieces if len(words) > _PIECE_WORDS[0] else 0):
            length = min(int(np.exp(draw.uniform(low, high))), len(words))
            first = int(draw.integers(len(words) - length + 1))
            texts.append(prompt[words[first][0] : words[first + length - 1][1]])
            source.append(number)
    return texts, np.array(source, np.int64)


def _best_temperature(evidence: Matrix, shares: Matrix, labels: Indices) -> float:
    """Return the temperature at which the evidence explains texts not trained on best."""
    rows = np.arange(len(labels))
    losses = [
        -np.log(np.maximum(softmax(evidence / t + shares)[rows, labels], 1e-12)).mean()
        for t in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])
