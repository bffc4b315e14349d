"""Train a perceptive router on the training rows of a table of outcomes, and on nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from router_models.encoders.blend import BlendEncoder
from router_models.encoders.shape import SHAPES
from router_models.perceptive.model import Head, PerceptiveRouter, Target
from router_models.training.checkpoint import Checkpoint
from router_models.training.dataset import RoutingData
from router_models.training.encoders import (
    DEFAULT_ENCODER,
    Progress,
    finished,
    start_encoder,
)
from router_models.training.errors import error_bounds, mean_square
from router_models.training.fit_head import Evidence, FittedHead, Trust, fit_head
from router_models.training.sparse import Floats, Indices, encode_all
from router_models.training.task_posterior import Labelled, TaskFit, fit_task_posterior
from router_models.types import DataError

Matrix = NDArray[np.float64]

#: What is learnt: the outcomes, or beside them the order of the models.
Loss = Literal["squared", "ranking"]

#: Tokens expected of an answer where the data never say.
DEFAULT_OUTPUT_TOKENS = 256.0

_MAX_TABLE_BYTES = 8_000_000
_MIN_PROMPTS = 10


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to fit.

    ``encoder`` is a name as ``training.encoders`` reads it; ``steps`` bounds the fine-tuning of one
    that learns. ``loss`` says what corrections are fitted to; ``folds`` folds are held out in turn to
    say how good predictions are. ``steady`` makes a router that reads every prompt three times, where
    its encoder is quick: a prefix then hardly turns the choice, for a little accuracy and time.
    """

    seed: int = 0
    encoder: str = DEFAULT_ENCODER
    loss: Loss = "squared"
    steps: int = 200
    folds: int = 5
    max_rows: int = 16_384
    task_penalty: float = 3e-6
    steady: bool = False


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What was fitted and what cross-validation on the training prompts says of it.

    ``squared_error`` is the mean over out-of-fold predictions of the target, ``squared_error_mean``
    the same for predicting every model's mean. ``task_accuracy`` is None without tasks. ``departures``
    and ``levels`` are the trust in every kind of evidence, as in ``fit_head``.
    """

    prompts: int
    labels: int
    withheld: int
    target: Target
    options: TrainingOptions
    temperature: float
    task_accuracy: float | None
    departures: Trust
    levels: Trust
    squared_error: float
    squared_error_mean: float
    output_tokens: str
    rows: int

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FittedPerceptive:
    """A router, and what it said of every prompt while that prompt's fold was left out.

    ``out_of_fold`` has shape (prompts, models), in the unit of the target. Where the encoder learnt
    from some of the prompts, only the others are ``judged``, and the rest of it is NaN.
    """

    router: PerceptiveRouter
    report: TrainingReport
    evidence: Evidence
    targets: Matrix
    out_of_fold: Matrix
    judged: Indices | None = None

    @property
    def honest(self) -> Indices:
        """The prompts that ``out_of_fold`` tells of."""
        return np.arange(len(self.targets)) if self.judged is None else self.judged


def train(
    data: RoutingData,
    options: TrainingOptions | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> tuple[PerceptiveRouter, TrainingReport]:
    """Fit a perceptive router alone; see ``fit_perceptive``."""
    fitted = fit_perceptive(data, options, progress)
    return fitted.router, fitted.report


def fit_perceptive(
    data: RoutingData,
    options: TrainingOptions | None = None,
    progress: Progress = lambda stage, done, total: None,
    checkpoint: Checkpoint | None = None,
) -> FittedPerceptive:
    """Fit a router on every prompt of ``data``; pass ``RoutingData.training()``.

    The target is ``loss`` where the data have losses, else ``score``. The same data and options
    give the same bits on the same machine, also when stages are taken from a ``checkpoint``. Raises
    DataError when there are fewer than 10 prompts.
    """
    options = options or TrainingOptions()
    checkpoint = checkpoint or Checkpoint()
    if len(data.prompts) < _MIN_PROMPTS:
        raise DataError(
            f"column 'split': {len(data.prompts)} training prompts; {_MIN_PROMPTS} are needed"
        )
    target: Target = "score" if data.losses is None else "loss"
    targets = data.scores if data.losses is None else data.losses
    tasks = _tasks(data)
    chosen = _attempt(data, targets, tasks, options, progress, checkpoint)
    perceived = chosen.perceived.weights
    lengths = checkpoint.stage(
        "lengths", _Lengths, lambda: _fit_lengths(data, chosen.evidence, options)
    )
    progress("lengths", 1, 1)
    low, high = error_bounds(targets - chosen.outcome.out_of_fold)
    router = PerceptiveRouter(
        version="",
        models=data.models,
        tasks=tasks,
        target=target,
        encoder=finished(chosen.encoder),
        table=_as_stored([perceived.weights, chosen.outcome.weights, *lengths.weights]),
        task_bias=perceived.bias.astype(np.float64),
        outcome=chosen.outcome.head,
        error_low=low,
        error_high=high,
        log_tokens=lengths.head,
    )
    report = _report(data, options, chosen, lengths.source, targets, router)
    router = replace(router, version=_fingerprint(router))
    return FittedPerceptive(router, report, chosen.evidence, targets, chosen.outcome.out_of_fold)


@dataclass(frozen=True, slots=True)
class _Attempt:
    encoder: BlendEncoder
    evidence: Evidence
    perceived: TaskFit
    outcome: FittedHead


@dataclass(frozen=True, slots=True)
class _Lengths:
    head: Head
    weights: list[Floats]
    source: str


def _report(
    data: RoutingData,
    options: TrainingOptions,
    chosen: _Attempt,
    output_tokens: str,
    targets: Matrix,
    router: PerceptiveRouter,
) -> TrainingReport:
    return TrainingReport(
        prompts=len(data.prompts),
        labels=int((~np.isnan(targets)).sum()),
        withheld=data.withheld,
        target=router.target,
        options=options,
        temperature=chosen.perceived.temperature,
        task_accuracy=chosen.perceived.accuracy,
        departures=chosen.outcome.departures,
        levels=chosen.outcome.levels,
        squared_error=mean_square(targets - chosen.outcome.out_of_fold),
        squared_error_mean=mean_square(targets - router.outcome.mean),
        output_tokens=output_tokens,
        rows=router.encoder.rows,
    )


def _tasks(data: RoutingData) -> tuple[str, ...]:
    names = tuple(sorted(set(data.tasks)))
    return names if len(names) > 1 else ()


def _attempt(
    data: RoutingData,
    targets: Matrix,
    tasks: tuple[str, ...],
    options: TrainingOptions,
    progress: Progress,
    checkpoint: Checkpoint,
) -> _Attempt:
    """Fit encoder, tasks and outcomes. The task is perceived from the words alone."""
    width = len(tasks) + 2 * len(data.models)
    max_rows = min(options.max_rows, _MAX_TABLE_BYTES // (2 * width) - SHAPES)
    encoder = start_encoder(
        options.encoder,
        data.prompts,
        max_rows=max_rows,
        checkpoint=checkpoint,
        progress=progress,
    )
    position = {task: i for i, task in enumerate(tasks)}
    labels = np.array([position.get(task, 0) for task in data.tasks], np.int64)
    folds = _deal(labels, options)
    steps = options.folds + 2
    perceived = checkpoint.stage(
        "tasks",
        TaskFit,
        lambda: fit_task_posterior(
            encoder,
            Labelled(data.prompts, labels, folds, len(tasks)),
            penalty=options.task_penalty,
            seed=options.seed,
            progress=lambda fold: progress("tasks", fold, steps),
        ),
    )
    progress("outcomes", options.folds + 1, steps)
    shaped = encoder.with_shape(1.0)
    x = encode_all(shaped, data.prompts)
    evidence = Evidence(x, encoder.word_rows, folds, perceived.posterior)
    outcome = checkpoint.stage(
        "outcomes", FittedHead, partial(fit_head, evidence, targets, options.seed)
    )
    progress("outcomes", steps, steps)
    return _Attempt(shaped, evidence, perceived, outcome)


def _deal(labels: Indices, options: TrainingOptions) -> Indices:
    """Deal the prompts of every task over the folds in an order fixed by the seed."""
    order = np.random.default_rng(options.seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % options.folds
    return folds


def _fit_lengths(data: RoutingData, evidence: Evidence, options: TrainingOptions) -> _Lengths:
    tokens = data.completion_tokens
    models = len(data.models)
    if np.isnan(tokens).all():
        head = Head(
            np.full(models, np.log(DEFAULT_OUTPUT_TOKENS)),
            np.zeros((evidence.posterior.shape[1], models)),
        )
        source = f"the data have no completion_tokens; {DEFAULT_OUTPUT_TOKENS:.0f} are assumed"
        return _Lengths(head, [], source)
    targets = np.log(np.maximum(tokens, 1.0))
    fitted = fit_head(evidence, targets, options.seed)
    # exp of a mean logarithm is too low a mean: Duan's smearing estimate (JASA 78, 1983).
    errors = np.exp(np.clip(targets - fitted.out_of_fold, -3.0, 3.0))
    known = ~np.isnan(errors)
    smear = np.where(known, errors, 0.0).sum(axis=0) + 1.0
    mean = fitted.head.mean + np.log(smear / (known.sum(axis=0) + 1.0))
    has_correction = bool(np.any(fitted.weights))
    weights = [fitted.weights] if has_correction else []
    return _Lengths(replace(fitted.head, mean=mean), weights, "learnt from completion_tokens")


def _as_stored(parts: list[Floats]) -> Floats:
    """Round to the precision an artifact keeps, so that saving changes no prediction."""
    return np.hstack(parts).astype(np.float16).astype(np.float32)


def _fingerprint(router: PerceptiveRouter) -> str:
    digest = hashlib.sha256(repr((router.models, router.tasks, router.target)).encode())
    for array in (router.table, router.task_bias, router.outcome.mean, router.outcome.offsets):
        digest.update(np.ascontiguousarray(array).tobytes())
    for vector in (router.error_low, router.error_high, router.log_tokens.mean):
        digest.update(vector.tobytes())
    return digest.hexdigest()[:12]
