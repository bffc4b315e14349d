"""Make a pilot library from training prompts and choose how to read it, by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder
from router_models.encoders.lexical import fit_lexical
from router_models.perceptive.model import Target
from router_models.retriever.library import (
    ModelOutcomes,
    PilotLibrary,
    PilotPrompt,
    summarise,
)
from router_models.retriever.model import RetrieverRouter, Rule
from router_models.training.dataset import RoutingData
from router_models.training.encoders import is_frozen
from router_models.training.errors import error_bounds, mean_square, routing_error
from router_models.training.latent import principal_axes, spherical_k_means, unit_rows
from router_models.training.sparse import Floats, Indices, SparseRows, encode_all

Matrix = NDArray[np.float64]

#: Tokens expected of an answer where the data never say.
_DEFAULT_LOG_TOKENS = float(np.log(256.0))
#: Every prompt may be a pilot of its own up to this many.
_MOST_PILOTS = 2_000


@dataclass(frozen=True, slots=True)
class PilotOptions:
    """What cross-validation chooses among, and the stored prompts of a pilot.

    ``counts`` are numbers of pilots, which prompts' number bounds; None makes every prompt a pilot.
    ``far_share`` of the training prompts would be far from a library made without them.
    """

    seed: int = 0
    rule: Rule = "outcomes"
    dimensions: tuple[int, ...] = (32, 64, 128)
    counts: tuple[int | None, ...] = (16, 64, 256, None)
    bandwidths: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    shrinkages: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    stored_prompts: int = 5
    far_share: float = 0.005


@dataclass(frozen=True, slots=True)
class Measured:
    """Training prompts as they are fitted: ``targets`` (prompts, models), NaN where unknown.

    ``x`` holds the prompts' words; ``folds`` (prompts,) names the fold that holds a prompt out.
    ``honest`` are the prompts that the encoder did not learn from, which alone settings are chosen on.
    """

    data: RoutingData
    target: Target
    encoder: Encoder
    x: SparseRows
    targets: Matrix
    folds: Indices
    honest: Indices


@dataclass(frozen=True, slots=True)
class FittedPilots:
    """The router, and what it said of every prompt while that prompt's fold was left out.

    Both are None for the literal rule, which predicts no outcome.
    """

    router: RetrieverRouter
    out_of_fold: Matrix | None = None
    squared_error: float | None = None


@dataclass(frozen=True, slots=True)
class _Setting:
    dimensions: int
    count: int | None
    bandwidth: float
    shrinkage: float


def fit_pilots(measured: Measured, options: PilotOptions | None = None) -> FittedPilots:
    """Fit the library, its space and its kernel.

    Of every setting the errors are told on prompts whose fold was left out of centroids and
    outcomes; the space and the membership saw their text, never their outcomes.
    """
    options = options or PilotOptions()
    axes = _stored(principal_axes(measured.x, max(options.dimensions), options.seed))
    if options.rule == "literal":
        return _fit_literal(measured, options, axes)
    _, setting, out_of_fold = min(_tried(measured, options, axes), key=itemgetter(0))
    kept = np.ascontiguousarray(axes[:, : setting.dimensions])
    x = unit_rows(measured.x.times(kept))
    members = _members(x, setting.count, options.seed)
    errors = (measured.targets - out_of_fold)[measured.honest]
    low, high = error_bounds(errors)
    router = RetrieverRouter(
        version="",
        encoder=measured.encoder,
        axes=kept,
        library=_library(measured, x, members, options),
        rule="outcomes",
        bandwidth=setting.bandwidth,
        shrinkage=setting.shrinkage,
        error_low=low,
        error_high=high,
        reach=_reach(measured, setting.dimensions, setting.count, options),
    )
    return FittedPilots(router, out_of_fold, mean_square(errors))


def _tried(
    measured: Measured, options: PilotOptions, axes: Floats
) -> Iterator[tuple[float, _Setting, Matrix]]:
    """Yield every setting with its error and its out-of-fold predictions."""
    honest = measured.honest
    for dimensions, count in _shapes(options, measured):
        x = unit_rows(measured.x.times(np.ascontiguousarray(axes[:, :dimensions])))
        members = _members(x, count, options.seed)
        similar = _similarities_without(x, members, measured.folds)
        for bandwidth, predicted, shrinkage in _sweep(measured, members, similar, options):
            error = routing_error(measured.targets[honest], predicted[honest])
            yield error, _Setting(dimensions, count, bandwidth, shrinkage), predicted


def _shapes(options: PilotOptions, measured: Measured) -> Iterator[tuple[int, int | None]]:
    prompts, available = len(measured.targets), min(measured.x.shape)
    dimensions = sorted({min(d, available) for d in options.dimensions})
    counts: list[int | None] = [c for c in options.counts if c is not None and c < prompts]
    if None in options.counts and prompts <= _MOST_PILOTS:
        counts.append(None)
    return product(dimensions, counts or [None])


def _members(x: Floats, count: int | None, seed: int) -> Indices:
    """Return the pilot of every prompt; numbers without a prompt are closed up."""
    if count is None:
        return np.arange(len(x))
    _, members = spherical_k_means(x, count, seed)
    return np.unique(members, return_inverse=True)[1].astype(np.int64)


def _similarities_without(x: Floats, members: Indices, folds: Indices) -> Floats:
    """Cosine of every prompt with every pilot made without the prompt's fold, (prompts, pilots)."""
    sums = np.zeros((int(members.max()) + 1, x.shape[1]), np.float32)
    np.add.at(sums, members, x)
    similar = np.empty((len(x), len(sums)), np.float32)
    for fold in np.unique(folds):
        held = folds == fold
        rest = sums.copy()
        np.subtract.at(rest, members[held], x[held])
        # What is left of a pilot that held only this fold is rounding, no direction.
        rest[np.linalg.norm(rest, axis=1) < 1e-4] = 0.0
        similar[held] = x[held] @ unit_rows(rest).T
    return similar


def _sweep(
    measured: Measured, members: Indices, similar: Floats, options: PilotOptions
) -> Iterator[tuple[float, Matrix, float]]:
    """Yield (bandwidth, out-of-fold predictions, shrinkage) for every kernel."""
    targets, folds = measured.targets, measured.folds
    known = ~np.isnan(targets)
    values = np.where(known, targets, 0.0)
    pilots = similar.shape[1]
    for bandwidth in options.bandwidths:
        kernel = np.exp((similar.astype(np.float64) - 1.0) / bandwidth)
        counts, sums = np.empty_like(targets), np.empty_like(targets)
        priors = np.empty_like(targets)
        for fold in np.unique(folds):
            held, rest = folds == fold, folds != fold
            by_pilot = np.zeros((2, pilots, targets.shape[1]))
            np.add.at(by_pilot[0], members[rest], known[rest])
            np.add.at(by_pilot[1], members[rest], values[rest])
            counts[held], sums[held] = kernel[held] @ by_pilot[0], kernel[held] @ by_pilot[1]
            overall = values[rest].sum() / max(known[rest].sum(), 1)
            priors[held] = (values[rest].sum(axis=0) + overall) / (known[rest].sum(axis=0) + 1.0)
        for shrinkage in options.shrinkages:
            yield bandwidth, (sums + shrinkage * priors) / (counts + shrinkage), shrinkage


def _fit_literal(measured: Measured, options: PilotOptions, axes: Floats) -> FittedPilots:
    """A pilot for every task and winner in it, as in RouterRetriever's Algorithm 1."""
    x = unit_rows(measured.x.times(axes))
    sign = 1.0 if measured.target == "loss" else -1.0
    worst = np.where(np.isnan(measured.targets), np.inf, sign * measured.targets)
    pairs = list(zip(measured.data.tasks, worst.argmin(axis=1).tolist(), strict=True))
    position = {pair: i for i, pair in enumerate(sorted(set(pairs)))}
    members = np.array([position[pair] for pair in pairs], np.int64)
    zeros = np.zeros(len(measured.data.models))
    router = RetrieverRouter(
        version="",
        encoder=measured.encoder,
        axes=axes,
        library=_library(measured, x, members, options),
        rule="literal",
        bandwidth=options.bandwidths[0],
        shrinkage=options.shrinkages[0],
        error_low=zeros,
        error_high=zeros,
        reach=_reach(measured, axes.shape[1], len(position), options),
    )
    return FittedPilots(router)


def _reach(measured: Measured, dimensions: int, count: int | None, options: PilotOptions) -> float:
    """Return the nearness that all but ``far_share`` of the prompts have to strange pilots.

    Vocabulary, space and pilots are made anew without each fold: what a prompt has lent its own words
    to is nearer to it than to any prompt to come.
    """
    nearness = np.empty(len(measured.targets))
    for fold in np.unique(measured.folds):
        held = np.flatnonzero(measured.folds == fold)
        rows, strangers = _strange(measured, np.flatnonzero(measured.folds != fold), held)
        axes = principal_axes(rows, dimensions, options.seed)
        x = unit_rows(rows.times(axes))
        pilots = x
        if count is not None and count < len(x):
            pilots, _ = spherical_k_means(x, count, options.seed)
        nearness[held] = (strangers.times(axes) @ pilots.T).max(axis=1)
    return float(np.clip(np.quantile(nearness, options.far_share), 0.0, 1.0))


def _strange(measured: Measured, known: Indices, held: Indices) -> tuple[SparseRows, SparseRows]:
    """Encode known and held prompts as if the held ones had lent the encoder no words."""
    if is_frozen(measured.encoder):
        return measured.x.take(known), measured.x.take(held)
    texts = [measured.data.prompts[i] for i in known]
    encoder = fit_lexical(texts, max_rows=measured.encoder.word_rows, use_idf=True)
    asked = [measured.data.prompts[i] for i in held]
    return encode_all(encoder, texts), encode_all(encoder, asked)


def _library(
    measured: Measured, x: Floats, members: Indices, options: PilotOptions
) -> PilotLibrary:
    data = measured.data
    pilots = int(members.max()) + 1
    sums = np.zeros((pilots, x.shape[1]), np.float32)
    np.add.at(sums, members, x)
    centroids = _stored(unit_rows(sums))
    similar = (x * centroids[members]).sum(axis=1)
    lengths = np.log(np.maximum(data.completion_tokens, 1.0))
    columns = [
        summarise(members, pilots, measured.targets[:, m], lengths[:, m])
        for m in range(len(data.models))
    ]
    means = _column(columns, "mean")
    known = ~np.isnan(measured.targets)
    overall = float(np.nanmean(measured.targets))
    departures = np.where(known, measured.targets - means[members], 0.0).sum(axis=1)
    offsets = departures / np.maximum(known.sum(axis=1), 1)
    sums_by_model = np.where(known, measured.targets, 0.0).sum(axis=0)
    order = np.argsort(-similar, kind="stable")
    typical = [order[members[order] == pilot] for pilot in range(pilots)]
    return PilotLibrary(
        models=data.models,
        target=measured.target,
        names=tuple(_most_frequent([data.tasks[i] for i in rows]) for rows in typical),
        prompts=tuple(
            tuple(PilotPrompt(data.prompt_ids[i], data.prompts[i], float(offsets[i])) for i in rows)
            for rows in (t[: options.stored_prompts] for t in typical)
        ),
        centroids=centroids,
        sizes=np.bincount(members, minlength=pilots).astype(np.float64),
        measured=_column(columns, "measured"),
        means=means,
        errors=_column(columns, "error"),
        log_tokens=_log_tokens(columns, lengths),
        priors=(sums_by_model + overall) / (known.sum(axis=0) + 1.0),
        log_token_priors=_length_priors(lengths),
    )


def _log_tokens(columns: list[ModelOutcomes], lengths: Matrix) -> Matrix:
    if np.isnan(lengths).all():
        return np.full((len(columns[0].measured), len(columns)), _DEFAULT_LOG_TOKENS)
    return _column(columns, "log_tokens")


def _length_priors(lengths: Matrix) -> NDArray[np.float64]:
    told = ~np.isnan(lengths)
    if not told.any():
        return np.full(lengths.shape[1], _DEFAULT_LOG_TOKENS)
    overall = lengths[told].mean()
    sums = np.where(told, lengths, 0.0).sum(axis=0)
    return np.asarray((sums + overall) / (told.sum(axis=0) + 1.0))


def _column(columns: list[ModelOutcomes], name: str) -> Matrix:
    return np.column_stack([getattr(column, name) for column in columns])


def _most_frequent(names: list[str]) -> str:
    return max(sorted(set(names)), key=names.count)


def _stored(values: Floats) -> Floats:
    """Round to the precision an artifact keeps, so that saving changes no prediction."""
    return np.ascontiguousarray(values.astype(np.float16).astype(np.float32))
