"""Fine-tune a sentence encoder with a router's heads on the training prompts, and on nothing else.

A part of them, dealt by task, is never learnt from: it stops the training, chooses the step that is
kept, and gives the errors that calibration and intervals are made from. The start is the same
encoder left as it is, with heads fitted as for any encoder; only what does better there replaces it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from router_models.encoders.blend import BlendEncoder
from router_models.encoders.sentence import SentenceEncoder, SentenceModel
from router_models.files import replace_file
from router_models.finetune.export import export
from router_models.finetune.network import Batch, RoutingNetwork, collate
from router_models.finetune.source import Source, read_source
from router_models.perceptive.model import PerceptiveRouter
from router_models.training.checkpoint import Checkpoint
from router_models.training.dataset import RoutingData
from router_models.training.encoders import Progress
from router_models.training.errors import error_bounds, mean_square
from router_models.training.sparse import encode_all
from router_models.training.train import FittedPerceptive, TrainingOptions, fit_perceptive

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]
Row = tuple[list[int], Floats, Floats, int]

#: The share of training prompts that is judged on, at most so many, and how often and how patiently.
_JUDGED_SHARE, _MOST_JUDGED = 0.2, 400
_JUDGE_EVERY, _PATIENCE = 25, 4
_BATCH = 16
#: Tokens of a prompt in training: steps cost half of what whole windows would.
_TRAINING_WINDOW = 128
_BODY_RATE, _HEAD_RATE, _DECAY = 3e-5, 3e-4, 0.01
_WARM_UP = 0.1
_SAMPLES = 24
_STAGE = "finetune"


@dataclass
class _Progressed:
    """Where training stands: what its checkpoint keeps."""

    step: int
    best_step: int
    best_loss: float
    best: dict[str, torch.Tensor]


def fit_finetuned(
    data: RoutingData, options: TrainingOptions, progress: Progress, checkpoint: Checkpoint
) -> FittedPerceptive:
    """Fit a perceptive router whose encoder learns with it, and export it to ONNX.

    ``options.encoder`` is ``sentence-transformers``, or that and a folder or name after a colon. The
    same data and options give the same bits on the same machine, also after a kill.
    """
    source = read_source(options.encoder.partition(":")[2])
    torch.use_deterministic_algorithms(True)
    learning, judged = _divide(data.tasks, options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = _start_folder(source, data.prompts, checkpoint.folder() or Path(temporary))
        named = replace(options, encoder=f"minilm:{folder}")
        start = fit_perceptive(data.take(learning), named, progress, checkpoint)
    encoder = _blend(start.router)
    words = cast(SentenceEncoder, encoder.words)
    original = cast(SentenceModel, words.embedder)
    first = source.first_token
    network = RoutingNetwork(source.body, start.router, words.centre, first_token=first)
    targets = data.scores if data.losses is None else data.losses
    rows = _rows(data, targets, start.router, original)
    scale = float(np.nanstd(targets[learning])) or 1.0
    best = _train(
        network, [rows[i] for i in learning], [rows[i] for i in judged], scale,
        options, progress, checkpoint,
    )  # fmt: skip
    if best.best_step:
        model, _ = export(source, data.prompts[:_SAMPLES])
    else:
        model = original
    router = _router(start.router, network, replace(words, embedder=model))
    return _fitted(data, targets, router, start, judged, options)


def _divide(tasks: Sequence[str], seed: int) -> tuple[Indices, Indices]:
    """Deal the prompts of every task into those to learn from and those to judge on."""
    order = np.random.default_rng(seed).permutation(len(tasks))
    order = order[np.argsort(np.array(tasks)[order], kind="stable")]
    share = min(_JUDGED_SHARE, _MOST_JUDGED / len(tasks))
    every = max(round(1 / share), 2)
    is_judged = np.zeros(len(tasks), np.bool_)
    is_judged[order[::every]] = True
    return np.flatnonzero(~is_judged), np.flatnonzero(is_judged)


def _start_folder(source: Source, prompts: Sequence[str], beside: Path) -> Path:
    """Export the encoder as it is into a folder that training reads like any other."""
    folder = beside / "start"
    if not (folder / "model.onnx").is_file():
        model, _ = export(source, prompts[:_SAMPLES])
        window = f'{{"max_seq_length": {source.window}}}'
        pooling = f'{{"pooling_mode_cls_token": {str(source.first_token).lower()}}}'
        replace_file(folder / "tokenizer.json", source.tokenizer)
        replace_file(folder / "sentence_bert_config.json", window.encode())
        replace_file(folder / "1_Pooling" / "config.json", pooling.encode())
        replace_file(folder / "model.onnx", model.model)
    return folder


def _blend(router: PerceptiveRouter) -> BlendEncoder:
    return cast(BlendEncoder, router.encoder)


class _Blank:
    """An embedder that reads nothing, to ask a blend for its shape alone."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def embed(self, text: str) -> Floats:
        return np.ones(self.dimensions, np.float32)


def _rows(
    data: RoutingData, targets: Matrix, router: PerceptiveRouter, model: SentenceModel
) -> list[Row]:
    encoder = _blend(router)
    blank = SentenceEncoder(_Blank(model.dimensions), np.zeros(model.dimensions, np.float32))
    shapes = encode_all(replace(encoder, words=blank), data.prompts).dense()[:, encoder.word_rows :]
    position = {task: i for i, task in enumerate(router.tasks)}
    found = []
    for i, text in enumerate(data.prompts):
        tokens = model.tokens(text)
        if len(tokens) > _TRAINING_WINDOW:
            tokens = tokens[: _TRAINING_WINDOW * 3 // 4] + tokens[-_TRAINING_WINDOW // 4 :]
        found.append(
            (tokens, shapes[i], targets[i].astype(np.float32), position.get(data.tasks[i], 0))
        )
    return found


def _train(
    network: RoutingNetwork,
    learning: list[Row],
    judged: list[Row],
    scale: float,
    options: TrainingOptions,
    progress: Progress,
    checkpoint: Checkpoint,
) -> _Progressed:
    """Walk at most ``options.steps`` steps of AdamW; leave the network at the best step judged."""
    ranks = options.loss == "ranking"
    batches = [collate(judged[i : i + _BATCH]) for i in range(0, len(judged), _BATCH)]
    heads = [p for name, p in network.trainable().items() if not name.startswith("body.")]
    body = [p for name, p in network.trainable().items() if name.startswith("body.")]
    optimizer = torch.optim.AdamW([{"params": body}, {"params": heads}], weight_decay=_DECAY)
    at = _resumed(network, optimizer, checkpoint)
    if at is None:
        at = _Progressed(0, 0, _judge(network, batches, scale, ranks), _copy(network))
    while at.step < options.steps and at.step - at.best_step < _PATIENCE * _JUDGE_EVERY:
        network.train()
        torch.manual_seed(options.seed * 1_000_003 + at.step)
        optimizer.zero_grad()
        batch = collate([learning[i] for i in _drawn(len(learning), at.step, options.seed)])
        network.loss(batch, scale, ranks=ranks).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group, rate in zip(optimizer.param_groups, (_BODY_RATE, _HEAD_RATE), strict=True):
            group["lr"] = rate * _slope(at.step, options.steps)
        optimizer.step()
        at.step += 1
        progress("fine-tuning", at.step, options.steps)
        if at.step % _JUDGE_EVERY == 0 or at.step == options.steps:
            loss = _judge(network, batches, scale, ranks)
            if loss < at.best_loss:
                at.best_step, at.best_loss, at.best = at.step, loss, _copy(network)
            _keep(network, optimizer, at, checkpoint)
    with torch.no_grad():
        for name, parameter in network.trainable().items():
            parameter.copy_(at.best[name])
    return at


def _slope(step: int, steps: int) -> float:
    """Rise over the first tenth of the steps, then fall evenly to nothing."""
    rise = max(int(steps * _WARM_UP), 1)
    return min((step + 1) / rise, max(steps - step, 1) / max(steps - rise, 1))


def _drawn(prompts: int, step: int, seed: int) -> list[int]:
    """Return the prompts of a step: every epoch takes each once, in an order of its own."""
    size = min(_BATCH, prompts)
    per_epoch = prompts // size
    epoch, part = divmod(step, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(prompts)
    return [int(i) for i in order[part * size : (part + 1) * size]]


@torch.no_grad()
def _judge(network: RoutingNetwork, batches: list[Batch], scale: float, ranks: bool) -> float:
    network.eval()
    total = sum(float(network.loss(b, scale, ranks=ranks)) * len(b.tasks) for b in batches)
    return total / sum(len(b.tasks) for b in batches)


def _copy(network: RoutingNetwork) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.trainable().items()}


def _keep(
    network: RoutingNetwork,
    optimizer: torch.optim.Optimizer,
    at: _Progressed,
    checkpoint: Checkpoint,
) -> None:
    arrays = {"at": np.array([at.step, at.best_step, at.best_loss], np.float64)}
    for name, parameter in network.trainable().items():
        arrays[f"now/{name}"] = parameter.detach().numpy()
        arrays[f"best/{name}"] = at.best[name].numpy()
        state = optimizer.state[parameter]
        if state:  # the body's pooler, which nothing reads, has none
            arrays[f"mean/{name}"] = state["exp_avg"].numpy()
            arrays[f"square/{name}"] = state["exp_avg_sq"].numpy()
    checkpoint.keep(_STAGE, arrays)


@torch.no_grad()
def _resumed(
    network: RoutingNetwork,
    optimizer: torch.optim.Optimizer,
    checkpoint: Checkpoint,
) -> _Progressed | None:
    kept = checkpoint.arrays(_STAGE)
    if kept is None:
        return None
    step, best_step, best_loss = kept["at"].tolist()
    for name, parameter in network.trainable().items():
        parameter.copy_(torch.from_numpy(kept[f"now/{name}"]))
        if f"mean/{name}" in kept:
            optimizer.state[parameter] = {
                "step": torch.tensor(step, dtype=torch.float32),
                "exp_avg": torch.from_numpy(kept[f"mean/{name}"]),
                "exp_avg_sq": torch.from_numpy(kept[f"square/{name}"]),
            }
    checkpoint.resumed.append(f"{_STAGE} from step {int(step)}")
    best = {name: torch.from_numpy(kept[f"best/{name}"]) for name in network.trainable()}
    return _Progressed(int(step), int(best_step), best_loss, best)


def _router(
    start: PerceptiveRouter, network: RoutingNetwork, words: SentenceEncoder
) -> PerceptiveRouter:
    tables = network.tables()
    width = sum(table.shape[1] for table in tables)
    table = np.hstack([*tables, start.table[:, width:]]).astype(np.float16).astype(np.float32)
    encoder = replace(_blend(start), words=words)
    return replace(start, encoder=encoder, table=table, outcome=network.head())


def _fitted(
    data: RoutingData,
    targets: Matrix,
    router: PerceptiveRouter,
    start: FittedPerceptive,
    judged: Indices,
    options: TrainingOptions,
) -> FittedPerceptive:
    """Read every prompt as the gateway will, and tell errors on the judged ones alone."""
    x = encode_all(router.encoder, data.prompts)
    tasks, models = len(router.tasks), len(router.models)
    sums = x.times(router.table).astype(np.float64)
    logits = sums[:, :tasks] + router.task_bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    posterior = powers / powers.sum(axis=1, keepdims=True)
    outcome = router.outcome.predict(posterior, sums[:, tasks : tasks + models])
    out_of_fold = np.full_like(targets, np.nan)
    out_of_fold[judged] = outcome[judged]
    low, high = error_bounds(targets - out_of_fold)
    folds = np.random.default_rng(options.seed).permutation(len(targets)) % options.folds
    right = None
    if tasks:
        named = np.array(router.tasks)[posterior.argmax(axis=1)]
        right = float((named == np.array(data.tasks))[judged].mean())
    report = replace(
        start.report,
        prompts=len(data.prompts),
        labels=int((~np.isnan(targets)).sum()),
        options=options,
        task_accuracy=right,
        squared_error=mean_square(targets - out_of_fold),
        squared_error_mean=mean_square(targets[judged] - start.router.outcome.mean),
    )
    return FittedPerceptive(
        replace(router, error_low=low, error_high=high),
        report,
        replace(start.evidence, x=x, folds=folds, posterior=posterior),
        targets,
        out_of_fold,
        judged,
    )
