"""The layer in torch's own grouped matrix product: what to compare with where vLLM is not installed."""

from __future__ import annotations

import torch

from fused_experts.weights import ExpertWeights


def grouped_experts(
    x: torch.Tensor, weights: ExpertWeights, routing_weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """What ``fused_experts.reference`` computes of bf16, by slots sorted by expert; [T, H] in x's type.

    Arguments as there; no id may be below zero. Nothing waits for the host, so a CUDA graph can
    record it.
    """
    tokens, top_k = ids.shape
    experts = ids.reshape(-1).long()
    order = torch.argsort(experts, stable=True)
    counts = torch.zeros(weights.experts, dtype=torch.int32, device=x.device)
    counts.scatter_add_(0, experts, torch.ones_like(experts, dtype=torch.int32))
    ends = counts.cumsum(0).to(torch.int32)
    both = torch._grouped_mm(x[order // top_k], weights.w13.transpose(1, 2), offs=ends)
    gate, up = both.chunk(2, dim=-1)
    act = torch.nn.functional.silu(gate) * up
    out = torch._grouped_mm(act, weights.w2.transpose(1, 2), offs=ends)
    by_slot = torch.empty_like(out)
    by_slot[order] = out
    shares = routing_weights.to(out.dtype)[..., None]
    return (by_slot.view(tokens, top_k, -1) * shares).sum(dim=1)
