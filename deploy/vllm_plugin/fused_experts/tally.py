"""What the experts of a layer were asked to do, counted on the device by one small launch.

A CUDA graph replays no Python, so the numbers live in a tensor that a recorded launch adds to: per
layer int64 [4 + E]: calls, tokens, slots, distinct experts (summed over calls), then the slots of
each expert.
"""

# mypy: ignore-errors
from __future__ import annotations

import torch
import triton
import triton.language as tl

from fused_experts.kernels import local_expert
from fused_experts.plan import Plan

CALLS, TOKENS, SLOTS, DISTINCT, LOAD = range(5)


@triton.jit
def count_call(
    row, ids, expert_map, starts, tokens, slots,
    E: tl.constexpr, EP: tl.constexpr, SLOTS: tl.constexpr, HAS_MAP: tl.constexpr, DIRECT: tl.constexpr,
):  # fmt: skip
    """Add one call to ``row``; launches of one stream follow each other, so plain stores do."""
    expert = tl.arange(0, EP)
    if DIRECT:
        slot = tl.arange(0, SLOTS)
        own = local_expert(ids, expert_map, slot, slot < slots, HAS_MAP)
        number = tl.sum((own[:, None] == expert[None, :]).to(tl.int32), 0)
    else:
        number = tl.load(starts + expert + 1, mask=expert < E, other=0)
        number -= tl.load(starts + expert, mask=expert < E, other=0)
    at = row + 4 + expert
    tl.store(at, tl.load(at, mask=expert < E, other=0) + number, mask=expert < E)
    tl.store(row, tl.load(row) + 1)
    tl.store(row + 1, tl.load(row + 1) + tokens)
    tl.store(row + 2, tl.load(row + 2) + slots)
    tl.store(row + 3, tl.load(row + 3) + tl.sum((number > 0).to(tl.int32), 0))


def count(
    row: torch.Tensor, ids: torch.Tensor, plan: Plan | None, expert_map: torch.Tensor | None = None
) -> None:
    """Count a call with ``ids`` [T, k], from its plan where it has one."""
    experts, slots = row.numel() - LOAD, ids.numel()
    direct = plan is None
    count_call[(1,)](
        row, ids, ids if expert_map is None else expert_map, ids if direct else plan.starts,
        ids.shape[0], slots, experts, triton.next_power_of_2(experts),
        triton.next_power_of_2(slots) if direct else 1, expert_map is not None, direct, num_warps=8,
    )  # fmt: skip


def count_in_torch(
    row: torch.Tensor, ids: torch.Tensor, expert_map: torch.Tensor | None = None
) -> None:
    """``count`` without a launch, for the reference on a CPU."""
    flat = ids.reshape(-1).long()
    if expert_map is not None:
        flat = torch.where(flat >= 0, expert_map.long()[flat.clamp_min(0)], -1)
    number = torch.bincount(flat[flat >= 0], minlength=row.numel() - LOAD)
    row[LOAD:] += number
    row[:LOAD] += torch.tensor([1, ids.shape[0], ids.numel(), int((number > 0).sum())])
