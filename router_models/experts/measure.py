"""Measure what each expert is worth: the loss of the reference answer, given the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from router_models.experts.base_model import BaseModel, Encoded
from router_models.experts.gguf_adapter import Adapter

#: Tokens of one forward pass, padding included; bounds memory, not results.
_BATCH_TOKENS = 2048


@contextmanager
def applied(base: BaseModel, adapter: Adapter | None) -> Iterator[None]:
    """Merge an adapter into the weights for the duration of the block, then restore them exactly."""
    saved: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
    if adapter is not None:
        scale = adapter.alpha / adapter.rank
        for (layer, module), pair in adapter.pairs.items():
            weight = getattr(base.model.model.layers[layer].self_attn, module).weight
            saved.append((weight, weight.detach().clone()))
            update = torch.from_numpy(pair.b @ pair.a) * scale
            weight.data += update.to(weight.dtype)
    try:
        yield
    finally:
        for weight, original in saved:
            weight.data.copy_(original)


@torch.inference_mode()
def reference_losses(
    base: BaseModel,
    adapter: Adapter | None,
    examples: Sequence[Encoded],
    report: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """Mean negative log-likelihood, in nats per token, of each reference given its prompt."""
    losses = [0.0] * len(examples)
    done = 0
    with applied(base, adapter):
        for batch in _batches(examples):
            for index, loss in zip(batch, _losses(base, [examples[i] for i in batch]), strict=True):
                losses[index] = loss
            done += len(batch)
            report(done)
    return losses


def _batches(examples: Sequence[Encoded]) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in sorted(range(len(examples)), key=lambda i: len(examples[i].token_ids)):
        width = len(examples[index].token_ids)
        if batch and width * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _losses(base: BaseModel, batch: list[Encoded]) -> list[float]:
    width = max(len(e.token_ids) for e in batch)
    ids = torch.full((len(batch), width), int(base.model.config.eos_token_id))
    for row, e in enumerate(batch):
        ids[row, : len(e.token_ids)] = torch.tensor(e.token_ids)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = base.model.model(ids, use_cache=False).last_hidden_state
        logits = [
            base.model.lm_head(hidden[row, e.start - 1 : e.end - 1]) for row, e in enumerate(batch)
        ]
    losses = []
    for e, scores in zip(batch, logits, strict=True):
        targets = torch.tensor(e.token_ids[e.start : e.end])
        losses.append(float(torch.nn.functional.cross_entropy(scores.float(), targets)))
    return losses
