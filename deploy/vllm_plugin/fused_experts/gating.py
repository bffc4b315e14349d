"""Which experts a token goes to, and with what weight.

Logits are [T, E]; results are weights [T, k] in fp32 and ids [T, k] in int32, best first. An id of
−1 is a slot that no expert computes: ``fused_experts`` drops it, other kernels may not.
"""

from __future__ import annotations

import torch

Choice = tuple[torch.Tensor, torch.Tensor]


def softmax_top_k(logits: torch.Tensor, k: int, *, renormalise: bool) -> Choice:
    """The k most probable experts; ``renormalise`` makes their weights sum to one (Qwen3, Mixtral)."""
    weights, ids = logits.float().softmax(-1).topk(k)
    return _renormalised(weights) if renormalise else weights, ids.int()


def grouped_top_k(
    logits: torch.Tensor, k: int, *, groups: int, kept_groups: int, renormalise: bool
) -> Choice:
    """Softmax top-k in the groups whose best expert is best (DeepSeek-V2, 2405.04434)."""
    scores = logits.float().softmax(-1)
    best = scores.unflatten(-1, (groups, -1)).amax(-1)
    kept = _within(scores, best.topk(kept_groups).indices, groups)
    weights, ids = kept.topk(k)
    return _renormalised(weights) if renormalise else weights, ids.int()


def sigmoid_top_k(
    logits: torch.Tensor,
    bias: torch.Tensor,
    k: int,
    *,
    groups: int = 1,
    kept_groups: int = 1,
    scale: float = 1.0,
) -> Choice:
    """Sigmoid scores, chosen with a balancing bias [E] that does not weigh (DeepSeek-V3, 2412.19437).

    Groups are ranked by the sum of their two best biased scores. Weights are renormalised, times
    ``scale``.
    """
    scores = logits.float().sigmoid()
    biased = scores + bias
    if groups > 1:
        best = biased.unflatten(-1, (groups, -1)).topk(2).values.sum(-1)
        biased = _within(biased, best.topk(kept_groups).indices, groups)
    ids = biased.topk(k).indices
    return _renormalised(scores.gather(-1, ids)) * scale, ids.int()


def drop_tail(
    weights: torch.Tensor, ids: torch.Tensor, p: float, *, of_all: bool = False
) -> Choice:
    """Top-p (2403.07652, "Harder Tasks Need More Experts"): the experts it takes to reach share p.

    Keeps a token's fewest best slots whose weights reach ``p`` of its k slots' sum (``of_all``: of
    one, the mass of all experts, for weights that were not renormalised), at least one; the others
    get id −1 and weight 0. The kept are scaled up to the sum there was. Published gains are for
    models trained so; after the fact it trades quality for speed.
    """
    ordered, at = weights.sort(dim=-1, descending=True)
    total = ordered.sum(-1, keepdim=True)
    reached = ordered.cumsum(-1) - ordered
    keep = reached < p * (torch.ones_like(total) if of_all else total)
    keep[..., 0] = True
    kept = torch.where(keep, ordered, 0.0)
    kept = kept * (total / kept.sum(-1, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny))
    return kept, torch.where(keep, ids.gather(-1, at), -1)


def reuse_loaded(scores: torch.Tensor, k: int, own: int, *, renormalise: bool = True) -> Choice:
    """Each token's ``own`` best experts, then the best of those loaded for others (2511.02237).

    Reads fewer distinct experts per step. NOT reproducible: a token's experts depend on which
    requests share its batch, so the same request may give another answer tomorrow. ``scores`` [T,
    E] are probabilities.
    """
    first = scores.topk(own).indices
    loaded = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
    loaded[first.reshape(-1)] = True
    weights, ids = scores.masked_fill(~loaded, -1.0).topk(k)
    empty = weights < 0
    weights = weights.masked_fill(empty, 0.0)
    return (
        _renormalised(weights) if renormalise else weights,
        ids.int().masked_fill(empty, -1),
    )


def slots_saved(ids: torch.Tensor) -> torch.Tensor:
    """The share of slots that no expert computes, a scalar on the ids' device."""
    return (ids < 0).float().mean()


def _renormalised(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def _within(scores: torch.Tensor, kept: torch.Tensor, groups: int) -> torch.Tensor:
    """``scores`` [T, E] with −inf outside the groups ``kept`` [T, n]."""
    inside = torch.zeros(scores.shape[0], groups, dtype=torch.bool, device=scores.device)
    inside.scatter_(1, kept, True)
    outside = ~inside.repeat_interleave(scores.shape[1] // groups, dim=1)
    return scores.masked_fill(outside, float("-inf"))
