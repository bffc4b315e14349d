"""The layer in plain torch: what it computes, what tests compare with, what benchmarks start from."""

from __future__ import annotations

import torch

from fused_experts.weights import ExpertWeights


def reference(
    x: torch.Tensor,
    weights: ExpertWeights,
    routing_weights: torch.Tensor,
    ids: torch.Tensor,
    *,
    expert_map: torch.Tensor | None = None,
    weight_on_input: bool = False,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """out[t] = Σ_j r[t, j] · w2[e] @ (silu(gate) · up), e = ids[t, j], [gate, up] = w13[e] @ x[t].

    ``x`` [T, H], ``routing_weights`` and ``ids`` [T, k]; the result is [T, H] in ``dtype``, in
    which all sums are made. An id below zero, before or after ``expert_map`` (global id → local id
    or −1), contributes nothing. ``weight_on_input``: r multiplies x instead of the expert's output
    (Llama 4).
    """
    out = torch.zeros(x.shape[0], weights.hidden, dtype=dtype, device=x.device)
    local = ids.long()
    if expert_map is not None:
        local = torch.where(local >= 0, expert_map.long()[local.clamp_min(0)], -1)
    for expert in torch.unique(local[local >= 0]).tolist():
        token, slot = (local == expert).nonzero(as_tuple=True)
        share = routing_weights[token, slot].to(dtype)[:, None]
        w13, w2 = weights.dequantised(expert, dtype)
        rows = x[token].to(dtype)
        gate, up = ((rows * share if weight_on_input else rows) @ w13.T).chunk(2, dim=-1)
        result = (torch.nn.functional.silu(gate) * up) @ w2.T
        out.index_add_(0, token, result if weight_on_input else result * share)
    return out
