"""Heads of the peers that are fitted by gradient: linear, low-rank and one hidden layer.

One forward pass serves all three; they differ in the hidden layer alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

_BATCH = 128
_PATIENCE = 8
_MAX_EPOCHS = 200
_BETAS = (0.9, 0.999)
#: A share of the prompts it is given stops the fit; nothing else is learnt from them.
_STOPPING_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class HeadShape:
    """``width`` 0 has no hidden layer (logistic regression); with ``relu`` it is an MLP, without it
    a matrix factorisation with the prompt's features on one side (EmbedLLM, RouteLLM's MF).
    Without ``logistic`` it is fitted by least squares: for targets that are no shares."""

    width: int = 0
    relu: bool = False
    rate: float = 1e-3
    decay: float = 1e-3
    logistic: bool = True


def fit_gradient_head(
    x: Floats, targets: Matrix, shape: HeadShape, seed: int
) -> Callable[[Floats], Matrix]:
    """Fit by Adam (Kingma & Ba, 2015) with early stopping, on cross-entropy or squared error.

    ``x`` has shape (prompts, features); ``targets`` (prompts, models), NaN where missing and in
    [0, 1] if logistic. Returns a function from features to predicted targets.
    """
    draw = np.random.default_rng(seed)
    # Rows come with unit length; the usual rates expect unit variance of every feature.
    scale = np.float32(x.shape[1] ** 0.5)
    x = x * scale
    order = draw.permutation(len(x))
    held = max(1, int(len(x) * _STOPPING_SHARE))
    stopping, learning = order[:held], order[held:]
    weights = _start(x.shape[1], targets, shape, draw)
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    best, best_loss, waited, step = [w.copy() for w in weights], np.inf, 0, 0
    for _ in range(_MAX_EPOCHS):
        for begin in range(0, len(learning), _BATCH):
            batch = learning[begin : begin + _BATCH]
            step += 1
            _adam(weights, _slopes(weights, x[batch], targets[batch], shape), moments, step, shape)
        loss = _loss(_logits(weights, x[stopping], shape)[0], targets[stopping], shape)
        if loss < best_loss - 1e-5:
            best, best_loss, waited = [w.copy() for w in weights], loss, 0
        else:
            waited += 1
            if waited == _PATIENCE:
                break
        draw.shuffle(learning)
    return lambda new: _linked(_logits(best, new * scale, shape)[0], shape).astype(np.float64)


def _start(
    features: int, targets: Matrix, shape: HeadShape, draw: np.random.Generator
) -> list[Floats]:
    models = targets.shape[1]
    known = ~np.isnan(targets)
    mean = (np.where(known, targets, 0.0).sum(axis=0) + 1.0) / (known.sum(axis=0) + 2.0)
    bias = (np.log(mean / (1.0 - mean)) if shape.logistic else mean).astype(np.float32)
    if not shape.width:
        return [np.zeros((features, models), np.float32), bias]
    return [
        (draw.normal(size=(features, shape.width)) / features**0.5).astype(np.float32),
        np.zeros(shape.width, np.float32),
        (draw.normal(size=(shape.width, models)) / shape.width**0.5).astype(np.float32),
        bias,
    ]


def _logits(weights: list[Floats], x: Floats, shape: HeadShape) -> tuple[Floats, Floats]:
    """Return the logits, (prompts, models), and the input of the last layer."""
    hidden = x
    if shape.width:
        hidden = x @ weights[0] + weights[1]
        if shape.relu:
            hidden = np.maximum(hidden, 0.0)
    return hidden @ weights[-2] + weights[-1], hidden


def _slopes(weights: list[Floats], x: Floats, targets: Matrix, shape: HeadShape) -> list[Floats]:
    logits, hidden = _logits(weights, x, shape)
    missing = np.isnan(targets)
    errors = np.where(missing, 0.0, _linked(logits, shape) - targets).astype(np.float32) / len(x)
    slopes = [hidden.T @ errors, errors.sum(axis=0)]
    if shape.width:
        back = errors @ weights[2].T
        if shape.relu:
            back = back * (hidden > 0)
        slopes = [x.T @ back, back.sum(axis=0), *slopes]
    return slopes


def _adam(
    weights: list[Floats],
    slopes: list[Floats],
    moments: list[tuple[Floats, Floats]],
    step: int,
    shape: HeadShape,
) -> None:
    first, second = _BETAS
    for weight, slope, (mean, square) in zip(weights, slopes, moments, strict=True):
        mean += (1 - first) * (slope - mean)
        square += (1 - second) * (slope * slope - square)
        stride = (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + 1e-8)
        weight -= np.float32(shape.rate) * (stride + np.float32(shape.decay) * weight)


def _loss(logits: Floats, targets: Matrix, shape: HeadShape) -> float:
    known = ~np.isnan(targets)
    truth = np.where(known, targets, 0.0)
    entropy = np.logaddexp(0.0, logits) - truth * logits
    losses = entropy if shape.logistic else np.square(logits - truth)
    return float(np.where(known, losses, 0.0).sum() / max(known.sum(), 1))


def _linked(logits: Floats, shape: HeadShape) -> Floats:
    if not shape.logistic:
        return logits
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0))), np.float32)
