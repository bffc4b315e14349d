"""Train one LoRA expert of the base model on the prompts of its domain."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from router_models.experts.base_model import BaseModel, Encoded
from router_models.experts.domains import Example
from router_models.experts.gguf_adapter import Adapter, LoraPair
from router_models.experts.variants import STEPS

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an expert is trained; the same for all, so that only the domain differs."""

    steps: int = STEPS
    batch: int = 6
    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 1e-3
    warmup_steps: int = 8
    max_tokens: int = 640
    seed: int = 7


def train_expert(
    base: BaseModel,
    examples: Sequence[Example],
    recipe: Recipe,
    report: Callable[[int, float], None],
) -> Adapter:
    """Fit an adapter on query and value projections; ``report(step, loss)`` follows progress.

    The base model is left as it was. Loss is the mean cross-entropy, in nats per token, of the
    reference and its end-of-turn token.
    """
    torch.manual_seed(recipe.seed)
    draw = random.Random(recipe.seed)
    encoded = [_clip(base.encode(e.prompt, e.reference), recipe.max_tokens) for e in examples]
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=int(recipe.alpha),
        target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(base.model, config)
    weights = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe))
    adapted.train()
    queue: list[Encoded] = []
    for step in range(recipe.steps):
        while len(queue) < recipe.batch:
            queue.extend(draw.sample(encoded, len(encoded)))
        batch, queue = queue[: recipe.batch], queue[recipe.batch :]
        loss = _batch_loss(adapted, batch, base.model.config.eos_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        report(step + 1, float(loss))
    adapter = _extract(adapted, recipe.alpha)
    adapted.unload()
    base.model.eval()
    return adapter


def _rate(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _clip(encoded: Encoded, max_tokens: int) -> Encoded:
    """Keep the answer's head and the prompt's tail when an exchange is too long to train on."""
    surplus = len(encoded.token_ids) - max_tokens
    if surplus <= 0:
        return encoded
    drop = min(surplus, encoded.start // 2)
    ids = encoded.token_ids[drop:][:max_tokens]
    return Encoded(ids, encoded.start - drop, min(encoded.end - drop, max_tokens))


def _batch_loss(model: torch.nn.Module, batch: list[Encoded], pad: int) -> torch.Tensor:
    width = max(len(e.token_ids) for e in batch)
    ids = torch.full((len(batch), width), pad)
    targets = torch.full((len(batch), width), _IGNORED)
    for row, e in enumerate(batch):
        ids[row, : len(e.token_ids)] = torch.tensor(e.token_ids)
        targets[row, e.start - 1 : len(e.token_ids) - 1] = torch.tensor(e.token_ids[e.start :])
    wanted = targets != _IGNORED
    # Right padding needs no mask: a causal model never looks ahead. Logits of a 49k vocabulary are
    # the costly part, so only the wanted positions get them.
    with torch.autocast("cpu", torch.bfloat16):
        inner = model.get_base_model()
        hidden = inner.model(ids, use_cache=False).last_hidden_state
        logits = inner.lm_head(hidden[wanted])
    return cross_entropy(logits.float(), targets[wanted])


def _extract(adapted: torch.nn.Module, alpha: float) -> Adapter:
    pairs: dict[tuple[int, str], LoraPair] = {}
    layers = adapted.get_base_model().model.layers
    for number, layer in enumerate(layers):
        for module in ("q_proj", "v_proj"):
            projection = getattr(layer.self_attn, module)
            a = projection.lora_A["default"].weight.detach().float().numpy().copy()
            b = projection.lora_B["default"].weight.detach().float().numpy().copy()
            pairs[number, module] = LoraPair(a, b)
    return Adapter(alpha, pairs)
