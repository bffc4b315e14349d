"""Which slots each tile of the GEMMs takes, when there are too many to find out inside the GEMM.

A counting sort in three launches: nothing waits for the host and nothing is sized by data, so a
CUDA graph can hold it. The order is stable: the same ids give the same plan.
"""

# mypy: ignore-errors
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from fused_experts.kernels import local_expert

CHUNK = 128  # slots that one program ranks against each other
SCANNED = 32  # chunks that the scan takes at a time


@dataclass(frozen=True)
class Plan:
    """Slots by expert. ``order`` [slots]: those of expert e at ``starts[e]`` … ``starts[e + 1]``.

    ``tile_ends`` [E]: the number of tiles of experts 0 … e, each expert's last one perhaps
    part-filled.
    """

    order: torch.Tensor
    starts: torch.Tensor
    tile_ends: torch.Tensor


@triton.jit
def count_chunk(
    ids,
    expert_map,
    counts,
    slots,
    E: tl.constexpr,
    EP: tl.constexpr,
    CH: tl.constexpr,
    HAS_MAP: tl.constexpr,
):
    """counts[chunk, e] = slots of expert e in the chunk."""
    chunk = tl.program_id(0)
    slot = chunk * CH + tl.arange(0, CH)
    own = local_expert(ids, expert_map, slot, slot < slots, HAS_MAP)
    expert = tl.arange(0, EP)
    number = tl.sum((own[:, None] == expert[None, :]).to(tl.int32), 0)
    tl.store(counts + chunk * E + expert, number, mask=expert < E)


@triton.jit
def scan_chunks(
    counts, starts, tile_ends, chunks, BM, E: tl.constexpr, EP: tl.constexpr, SCAN: tl.constexpr
):
    """counts[chunk, e] becomes the number in earlier chunks; then the experts' starts and tile ends."""
    expert = tl.arange(0, EP)
    total = tl.zeros((EP,), tl.int32)
    for first in range(0, chunks, SCAN):
        chunk = first + tl.arange(0, SCAN)
        at = counts + chunk[:, None] * E + expert[None, :]
        mask = (chunk < chunks)[:, None] & (expert < E)[None, :]
        number = tl.load(at, mask=mask, other=0)
        tl.store(at, total[None, :] + tl.cumsum(number, 0) - number, mask=mask)
        total += tl.sum(number, 0)
    ends = tl.cumsum(total, 0)
    tl.store(starts + expert, ends - total, mask=expert < E)
    tl.store(starts + E, tl.sum(total, 0))
    tl.store(tile_ends + expert, tl.cumsum((total + BM - 1) // BM, 0), mask=expert < E)


@triton.jit
def place_slots(
    ids,
    expert_map,
    counts,
    starts,
    order,
    slots,
    E: tl.constexpr,
    CH: tl.constexpr,
    HAS_MAP: tl.constexpr,
):
    """order[start of expert + those in earlier chunks + those before it in its chunk] = slot."""
    chunk = tl.program_id(0)
    slot = chunk * CH + tl.arange(0, CH)
    own = local_expert(ids, expert_map, slot, slot < slots, HAS_MAP)
    earlier = (own[:, None] == own[None, :]) & (slot[None, :] < slot[:, None])
    rank = tl.sum(earlier.to(tl.int32), 1)
    live = own >= 0
    start = tl.load(starts + own, mask=live, other=0) + tl.load(
        counts + chunk * E + own, mask=live, other=0
    )
    tl.store(order + start + rank, slot, mask=live)


def plan_slots(
    ids: torch.Tensor, experts: int, block_m: int, expert_map: torch.Tensor | None = None
) -> Plan:
    """Sort the slots of ``ids`` [T, k] by local expert, for tiles of ``block_m`` slots."""
    slots = ids.numel()
    chunks = triton.cdiv(slots, CHUNK)
    padded = triton.next_power_of_2(experts)
    new = {"dtype": torch.int32, "device": ids.device}
    counts = torch.empty((chunks, experts), **new)
    plan = Plan(
        order=torch.empty(slots, **new),
        starts=torch.empty(experts + 1, **new),
        tile_ends=torch.empty(experts, **new),
    )
    mapped, has_map = (ids, False) if expert_map is None else (expert_map, True)
    count_chunk[(chunks,)](ids, mapped, counts, slots, experts, padded, CHUNK, has_map)
    scan_chunks[(1,)](
        counts, plan.starts, plan.tile_ends, chunks, block_m, experts, padded, SCANNED, num_warps=8
    )
    place_slots[(chunks,)](
        ids, mapped, counts, plan.starts, plan.order, slots, experts, CHUNK, has_map
    )
    return plan
