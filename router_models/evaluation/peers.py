"""Published routers in their plain form, fitted on the same training prompts in the same run.

All see the same features: tf-idf of hashed words and pairs of words, reduced to a dense vector by
truncated SVD. What a peer leaves open is chosen on a fifth of the training prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from router_models.encoders.lexical import fit_lexical
from router_models.evaluation import metrics
from router_models.evaluation.baselines import mean_measured, pick_highest
from router_models.evaluation.peer_heads import Floats, HeadShape, fit_gradient_head
from router_models.training.dataset import RoutingData
from router_models.training.latent import principal_axes, spherical_k_means, unit_rows
from router_models.training.sparse import encode_all

Matrix = NDArray[np.float64]
#: From features, (prompts, features), to preferences, (prompts, models).
Predict = Callable[[Floats], Matrix]

DIMENSIONS = 256
_MAX_ROWS = 16_384
_CHOOSING_SHARE = 0.2
#: Fewer training prompts than this leave nothing to choose with.
MIN_PROMPTS = 50


@dataclass(frozen=True, slots=True)
class Labelled:
    """Training prompts as a peer sees them; ``losses`` is (prompts, models), NaN where missing.

    ``in_unit`` says that losses are 1 - score, between 0 and 1.
    """

    x: Floats
    losses: Matrix
    tasks: NDArray[np.str_]
    in_unit: bool

    def take(self, rows: NDArray[np.int64]) -> Labelled:
        return Labelled(self.x[rows], self.losses[rows], self.tasks[rows], self.in_unit)


#: Fits a method with one setting of what it leaves open; told the seed.
Fit = Callable[[Labelled, int], Predict]


def peer_preferences(
    train: RoutingData, held_out: RoutingData, seed: int = 0
) -> Mapping[str, Matrix]:
    """Fit every peer on ``train`` and return its preferences on ``held_out``, (prompts, models).

    Empty where there are fewer than MIN_PROMPTS training prompts.
    """
    if len(train.prompts) < MIN_PROMPTS:
        return {}
    x, new = _embed(train.prompts, held_out.prompts, seed)
    losses = 1.0 - train.scores if train.losses is None else train.losses
    labelled = Labelled(x, losses, np.array(train.tasks), train.losses is None)
    return {name: _choose(fits, labelled, seed)(new) for name, fits in PEERS.items()}


def fit_nearest(labelled: Labelled, seed: int, *, k: int) -> Predict:
    """kNN: minus the mean loss of the k most similar prompts (arXiv 2505.12601)."""

    def predict(x: Floats) -> Matrix:
        k_here = min(k, len(labelled.x))
        result = np.empty((len(x), labelled.losses.shape[1]))
        for begin in range(0, len(x), 512):
            similar = x[begin : begin + 512] @ labelled.x.T
            nearest = np.argpartition(-similar, k_here - 1, axis=1)[:, :k_here]
            result[begin : begin + 512] = _mean(labelled.losses[nearest], labelled.losses)
        return -result

    return predict


def fit_clusters(labelled: Labelled, seed: int, *, k: int) -> Predict:
    """k-means, each cluster a profile of mean losses (Avengers 2508.12631, UniRoute 2502.08773)."""
    centres, members = spherical_k_means(labelled.x, min(k, len(labelled.x)), seed)
    fallback = mean_measured(labelled.losses)
    profile = np.tile(fallback, (len(centres), 1))
    for cluster in np.unique(members):
        own = mean_measured(labelled.losses[members == cluster])
        profile[cluster] = np.where(np.isfinite(own), own, fallback)
    return lambda x: -profile[(x @ centres.T).argmax(axis=1)]


def fit_pilots(labelled: Labelled, seed: int) -> Predict:
    """RouterRetriever (2409.02685) to the letter: a centroid for every task and winner in it; a
    model's preference is its mean similarity over all its centroids."""
    winners = np.nanargmin(labelled.losses, axis=1)
    models = labelled.losses.shape[1]
    pilots: list[list[Floats]] = [[] for _ in range(models)]
    for task in np.unique(labelled.tasks):
        for model in range(models):
            group = (labelled.tasks == task) & (winners == model)
            if group.any():
                pilots[model].append(unit_rows(labelled.x[group].mean(axis=0, keepdims=True))[0])

    def predict(x: Floats) -> Matrix:
        columns = [
            (x @ np.array(own).T).mean(axis=1) if own else np.full(len(x), -np.inf)
            for own in pilots
        ]
        return np.column_stack(columns).astype(np.float64)

    return predict


def fit_head(labelled: Labelled, seed: int, *, shape: HeadShape) -> Predict:
    """Regress the scores by the logistic, or losses in nats by the plain, form of ``shape``."""
    if labelled.in_unit:
        return fit_gradient_head(labelled.x, 1.0 - labelled.losses, shape, seed)
    spread = float(np.nanstd(labelled.losses)) or 1.0
    targets = (np.nanmean(labelled.losses) - labelled.losses) / spread
    return fit_gradient_head(labelled.x, targets, replace(shape, logistic=False), seed)


def _heads(*shapes: HeadShape) -> tuple[Fit, ...]:
    return tuple(partial(fit_head, shape=shape) for shape in shapes)


#: Every peer with the settings to choose among.
PEERS: Mapping[str, tuple[Fit, ...]] = {
    "kNN": tuple(partial(fit_nearest, k=k) for k in (5, 20, 50, 100)),
    "k-means clusters": tuple(partial(fit_clusters, k=k) for k in (8, 16, 32, 64)),
    "matrix factorisation": _heads(*(HeadShape(w, decay=d) for w in (8, 32) for d in (3.0, 0.3))),
    "logistic": _heads(*(HeadShape(decay=d) for d in (10.0, 3.0, 0.3))),
    "MLP": _heads(*(HeadShape(64, relu=True, decay=d) for d in (10.0, 3.0, 0.3))),
    "RouterRetriever, literal": (fit_pilots,),
}


def _choose(fits: tuple[Fit, ...], labelled: Labelled, seed: int) -> Predict:
    """Fit with the setting that routes best on the prompts kept for choosing, then on all."""
    if len(fits) == 1:
        return fits[0](labelled, seed)
    order = np.random.default_rng(seed).permutation(len(labelled.x))
    held = int(len(order) * _CHOOSING_SHARE)
    choosing, learning = labelled.take(order[:held]), labelled.take(order[held:])

    def routed(fit: Fit) -> float:
        picks = pick_highest(fit(learning, seed)(choosing.x), choosing.losses)
        return float(metrics.expected(choosing.losses, picks).mean())

    return min(fits, key=routed)(labelled, seed)


def _embed(prompts: Sequence[str], new: Sequence[str], seed: int) -> tuple[Floats, Floats]:
    encoder = fit_lexical(prompts, max_rows=_MAX_ROWS, use_idf=True)
    rows, others = encode_all(encoder, prompts), encode_all(encoder, new)
    axes = principal_axes(rows, DIMENSIONS, seed)
    return unit_rows(rows.times(axes)), unit_rows(others.times(axes))


def _mean(neighbours: Matrix, losses: Matrix) -> Matrix:
    """Mean over the neighbours, (prompts, k, models); a model none of them knows keeps its mean."""
    known = ~np.isnan(neighbours)
    counts = known.sum(axis=1)
    means = np.where(known, neighbours, 0.0).sum(axis=1) / np.maximum(counts, 1)
    return np.where(counts > 0, means, mean_measured(losses))
