"""The experts as one operator: opaque to torch.compile, free of host synchronisation on a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from fused_experts import ExpertWeights, fused_experts, reference
from fused_experts.tally import count_in_torch

from thalamus_vllm.counters import CounterFile, Counters
from thalamus_vllm.metrics import FOLDER
from thalamus_vllm.settings import read_settings
from thalamus_vllm.trace import Trace

_counters: Counters | None = None
_trace: Trace | None = None


def counters_for(experts: int, device: torch.device) -> Counters:
    """This process's counters, made at the first call, when the device is known."""
    global _counters
    if _counters is None:
        _counters = Counters(experts, device)
        if FOLDER in os.environ:
            CounterFile(_counters, Path(os.environ[FOLDER])).start()
    return _counters


def uses_triton(device: torch.device) -> bool:
    """Whether ``device`` runs the Triton source: a GPU, or the interpreter where it is asked for."""
    kernel = read_settings().kernel
    return kernel == "triton" or (kernel == "auto" and device.type == "cuda")


def record(layer: int, ids: torch.Tensor, experts_in_model: int) -> None:
    """Add to the trace, if one is asked for."""
    global _trace
    path = read_settings().trace_file
    if path:
        _trace = _trace or Trace(Path(path), experts_in_model)
        _trace.record(layer, ids)


@torch.library.custom_op("thalamus::experts", mutates_args=("out",))
def experts(
    out: torch.Tensor,
    x: torch.Tensor,
    w13: torch.Tensor,
    w2: torch.Tensor,
    routing_weights: torch.Tensor,
    ids: torch.Tensor,
    expert_map: torch.Tensor | None,
    weight_on_input: bool,
    layer: int,
) -> None:
    """Fill ``out`` [T, H]; see ``fused_experts.fused_experts``. ``layer`` numbers the counters' row."""
    weights = ExpertWeights(w13, w2)
    counters = counters_for(weights.experts, x.device)
    row = counters.row(layer, weights.experts)
    record(layer, ids, weights.experts if expert_map is None else expert_map.numel())
    if uses_triton(x.device):
        fused_experts(
            x, weights, routing_weights, ids,
            out=out, expert_map=expert_map, weight_on_input=weight_on_input, tally=row,
        )  # fmt: skip
    else:
        if row is not None:
            count_in_torch(row, ids, expert_map)
        found = reference(
            x, weights, routing_weights, ids,
            expert_map=expert_map, weight_on_input=weight_on_input, dtype=torch.float32,
        )  # fmt: skip
        out.copy_(found)
    counters.finished(layer)


@experts.register_fake
def _(
    out: torch.Tensor,
    x: torch.Tensor,
    w13: torch.Tensor,
    w2: torch.Tensor,
    routing_weights: torch.Tensor,
    ids: torch.Tensor,
    expert_map: torch.Tensor | None,
    weight_on_input: bool,
    layer: int,
) -> None:
    return None
