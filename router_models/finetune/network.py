"""A perceptive router as one differentiable function, from token ids to predicted outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from router_models.perceptive.model import Head, PerceptiveRouter

#: Weight of naming the task right against predicting the outcomes, whose variance counts as one.
_TASK_WEIGHT = 0.1
#: Weight of the order of models, where it is asked for.
_RANKING_WEIGHT = 1.0


@dataclass(frozen=True)
class Batch:
    """Some prompts: ``ids`` and ``mask`` (prompts, tokens), ``shape`` (prompts, shapes), ``targets``
    (prompts, models) with NaN where unknown, ``tasks`` (prompts,)."""

    ids: Tensor
    mask: Tensor
    shape: Tensor
    targets: Tensor
    tasks: Tensor


class RoutingNetwork(torch.nn.Module):
    """The encoder's body and, started from a trained router's table, its heads.

    ``centre`` is what training prompts have in common, and stays. Word vectors stay as well: a few
    hundred steps see few of them.
    """

    def __init__(
        self,
        body: torch.nn.Module,
        start: PerceptiveRouter,
        centre: np.ndarray,
        *,
        first_token: bool,
    ) -> None:
        super().__init__()
        tasks, models = len(start.tasks), len(start.models)
        self.body, self.first_token = body, first_token
        body.get_input_embeddings().requires_grad_(False)
        self.register_buffer("centre", torch.tensor(centre))
        self.register_buffer("task_bias", torch.tensor(start.task_bias, dtype=torch.float32))
        table = torch.tensor(start.table)
        self.task_table = torch.nn.Parameter(table[:, :tasks].clone())
        self.outcome_table = torch.nn.Parameter(table[:, tasks : tasks + models].clone())
        self.mean = torch.nn.Parameter(torch.tensor(start.outcome.mean, dtype=torch.float32))
        self.offsets = torch.nn.Parameter(torch.tensor(start.outcome.offsets, dtype=torch.float32))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the log-odds of the tasks and the outcomes of the models, a row for each prompt."""
        hidden = self.body(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        if self.first_token:
            pooled = hidden[:, 0]
        else:
            mask = batch.mask[:, :, None].to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        words = normalize(normalize(pooled, dim=1) - self.centre, dim=1)
        x = torch.cat([words, batch.shape], dim=1)
        logits = x @ self.task_table + self.task_bias
        outcome = self.mean + logits.softmax(dim=1) @ self.offsets + x @ self.outcome_table
        return logits, outcome

    def loss(self, batch: Batch, scale: float, *, ranks: bool) -> Tensor:
        """Divergence from the measured outcomes, in units of their variance, and the side tasks.

        ``scale`` is the outcomes' standard deviation. The squared error is the divergence between
        Gaussians of that width; Tryage's own is not known.
        """
        logits, outcome = self(batch)
        total = _squared(outcome, batch.targets, scale)
        if logits.shape[1]:
            total = total + _TASK_WEIGHT * cross_entropy(logits, batch.tasks)
        if ranks:
            total = total + _RANKING_WEIGHT * _ranking(outcome, batch.targets, scale)
        return total

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Return what learns, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def head(self) -> Head:
        """Return what is predicted from the task, as a router keeps it."""
        mean, offsets = (p.detach().double().numpy() for p in (self.mean, self.offsets))
        return Head(mean.copy(), offsets.copy())

    def tables(self) -> list[np.ndarray]:
        """Return the tables of tasks and outcomes, a row for every dimension."""
        return [p.detach().numpy().copy() for p in (self.task_table, self.outcome_table)]


def collate(rows: Sequence[tuple[Sequence[int], np.ndarray, np.ndarray, int]]) -> Batch:
    """Pad (tokens, shape, targets, task) of some prompts to one length."""
    longest = max(len(tokens) for tokens, *_ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, (tokens, *_) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        mask[i, : len(tokens)] = 1
    shape, targets = (
        torch.tensor(np.array([row[at] for row in rows]), dtype=torch.float32) for at in (1, 2)
    )
    return Batch(ids, mask, shape, targets, torch.tensor([row[3] for row in rows]))


def _squared(outcome: Tensor, targets: Tensor, scale: float) -> Tensor:
    known = ~targets.isnan()
    errors = (outcome - torch.nan_to_num(targets)) / scale
    return (errors.square() * known).sum() / known.sum().clamp(min=1)


def _ranking(outcome: Tensor, targets: Tensor, scale: float) -> Tensor:
    """Logistic loss over pairs of models, weighted by how far apart their outcomes are."""
    truth = (targets[:, :, None] - targets[:, None, :]) / scale
    apart = torch.nan_to_num(truth).clamp(min=0.0)
    lead = (outcome[:, :, None] - outcome[:, None, :]) / scale
    return (apart * softplus(-lead)).sum() / apart.sum().clamp(min=1e-9)
