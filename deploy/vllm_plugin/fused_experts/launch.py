"""The layer's experts on a GPU, or in Triton's interpreter: checks, buffers, launches."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import torch
import triton

from fused_experts import kernels
from fused_experts.plan import Plan, plan_slots
from fused_experts.tally import count
from fused_experts.tiles import Shape, Tile, Tiles, choose
from fused_experts.weights import FLOATS, ExpertWeights

#: Set before triton is imported, or it has no effect.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SUMMED_COLUMNS = 1024


def fused_experts(
    x: torch.Tensor,
    weights: ExpertWeights,
    routing_weights: torch.Tensor,
    ids: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
    expert_map: torch.Tensor | None = None,
    weight_on_input: bool = False,
    atomic: bool = False,
    tiles: Tiles | None = None,
    tally: torch.Tensor | None = None,
) -> torch.Tensor:
    """What ``fused_experts.reference`` computes, in x's type with sums in fp32.

    Arguments as there. ``out`` [T, H] receives the result if given. ``atomic`` adds each expert's
    part to the result as it comes: one buffer less, but the order of the sum, so its last bits,
    differ from run to run. Nothing here waits for the device and every buffer's size follows from
    the arguments' shapes, so a CUDA graph can record it. Raises ValueError for types or shapes that
    it does not compute.
    """
    _check(x, weights, routing_weights, ids)
    tokens, top_k = ids.shape
    if out is None:
        out = torch.empty_like(x)
    if tokens == 0:
        return out
    ids, routing_weights = ids.contiguous(), routing_weights.contiguous()
    if tiles is None:
        tiles = _tiles_for(x, weights, tokens, top_k)
    launch = _Launch(x, weights, routing_weights, ids, expert_map, weight_on_input, tiles)
    if tally is not None:
        count(tally, ids, None if tiles.direct else launch.plan, expert_map)
    act = torch.empty(tokens * top_k, weights.intermediate, dtype=x.dtype, device=x.device)
    launch.up(act)
    if atomic:
        total = out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
        launch.down(act, total.zero_(), atomic=True)
        return out if total is out else out.copy_(total)
    slot_out = torch.empty(tokens * top_k, weights.hidden, dtype=x.dtype, device=x.device)
    launch.down(act, slot_out, atomic=False)
    launch.sum(slot_out, out)
    return out


class _Launch:
    """What the launches for one batch share."""

    def __init__(
        self,
        x: torch.Tensor,
        weights: ExpertWeights,
        routing_weights: torch.Tensor,
        ids: torch.Tensor,
        expert_map: torch.Tensor | None,
        weight_on_input: bool,
        tiles: Tiles,
    ) -> None:
        self.x, self.weights, self.routing_weights, self.ids = x, weights, routing_weights, ids
        self.expert_map = ids if expert_map is None else expert_map
        self.tiles = tiles
        self.slots = ids.numel()
        self.plan = (
            Plan(ids, ids, ids)
            if tiles.direct
            else plan_slots(ids, weights.experts, tiles.block_m, expert_map)
        )
        self.rows_of_tiles = (
            self.slots
            if tiles.direct
            else self.slots // tiles.block_m + min(weights.experts, self.slots)
        )
        self.fixed = {
            "H": weights.hidden,
            "I": weights.intermediate,
            "E": weights.experts,
            "EP": triton.next_power_of_2(weights.experts),
            "K": ids.shape[1],
            "SLOTS": triton.next_power_of_2(self.slots) if tiles.direct else 1,
            "HAS_MAP": expert_map is not None,
            "DIRECT": tiles.direct,
            "ON_INPUT": weight_on_input,
            "SCALE": _scale_kind(weights),
            "SCALE_N": weights.block[0] if weights.block else 1,
            "SCALE_K": weights.block[1] if weights.block else 1,
            "BM": tiles.block_m,
            "INTERPRETED": INTERPRETED,
        }

    def up(self, act: torch.Tensor) -> None:
        weight, scale = self.weights.w13, self.weights.w13_scale
        self._gemm(
            kernels.gate_up_swiglu,
            self.tiles.up,
            self.weights.intermediate,
            (self.x, weight, weight if scale is None else scale, act),
            (self.x.stride(0), weight.stride(0), weight.stride(1), act.stride(0)),
        )

    def down(self, act: torch.Tensor, out: torch.Tensor, *, atomic: bool) -> None:
        weight, scale = self.weights.w2, self.weights.w2_scale
        self._gemm(
            kernels.down_weighted,
            self.tiles.down,
            self.weights.hidden,
            (act, weight, weight if scale is None else scale, out),
            (act.stride(0), weight.stride(0), weight.stride(1), out.stride(0)),
            ATOMIC=atomic,
        )

    def _gemm(
        self,
        kernel: triton.JITFunction,
        tile: Tile,
        columns: int,
        tensors: tuple[torch.Tensor, ...],
        strides: tuple[int, ...],
        **fixed: bool,
    ) -> None:
        if self.weights.block and self.weights.block[1] % tile.block_k:
            tile = replace(tile, block_k=min(tile.block_k, _even_part(self.weights.block[1])))
        kernel[(self.rows_of_tiles * triton.cdiv(columns, tile.block_n),)](
            *tensors, self.routing_weights, self.ids, self.expert_map,
            self.plan.order, self.plan.starts, self.plan.tile_ends, self.slots, *strides,
            **self.fixed, **fixed, BN=tile.block_n, BK=tile.block_k, GROUP=tile.group,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip

    def sum(self, slot_out: torch.Tensor, out: torch.Tensor) -> None:
        tokens, top_k = self.ids.shape
        hidden = self.weights.hidden
        block = min(SUMMED_COLUMNS, triton.next_power_of_2(hidden))
        kernels.sum_slots[(tokens, triton.cdiv(hidden, block))](
            slot_out, out, self.ids, self.expert_map, slot_out.stride(0), out.stride(0),
            hidden, top_k, self.fixed["HAS_MAP"], block, INTERPRETED,
        )  # fmt: skip


def _check(
    x: torch.Tensor, weights: ExpertWeights, routing_weights: torch.Tensor, ids: torch.Tensor
) -> None:
    if x.dtype not in FLOATS:
        raise ValueError(f"x is {x.dtype}, must be one of {FLOATS}")
    if weights.w13_scale is None and weights.w13.dtype != x.dtype:
        raise ValueError(f"x is {x.dtype}, the weights are {weights.w13.dtype}")
    if x.dim() != 2 or x.shape[1] != weights.hidden or x.stride(1) != 1:
        raise ValueError(f"x must be [tokens, {weights.hidden}] with contiguous rows")
    if ids.shape != routing_weights.shape or ids.dim() != 2 or ids.shape[0] != x.shape[0]:
        raise ValueError(
            f"ids {tuple(ids.shape)} and routing weights {tuple(routing_weights.shape)} "
            f"must both be [{x.shape[0]}, k]"
        )


def _scale_kind(weights: ExpertWeights) -> int:
    if weights.w13_scale is None:
        return kernels.NO_SCALE
    return kernels.CHANNEL_SCALE if weights.block is None else kernels.BLOCK_SCALE


def _even_part(number: int) -> int:
    """The largest power of two that divides ``number``: a step in K must not cross two scales."""
    return number & -number


def _tiles_for(x: torch.Tensor, weights: ExpertWeights, tokens: int, top_k: int) -> Tiles:
    shape = Shape(
        weights.experts,
        weights.hidden,
        weights.intermediate,
        top_k,
        weights.w13.element_size(),
        weights.block is not None,
    )
    return choose(tokens, shape, *_device(x.device))


@cache
def _device(device: torch.device) -> tuple[str, str]:
    """(name, architecture) of a device; the interpreter takes Hopper's rule."""
    if device.type != "cuda":
        return "", "sm_90"
    properties = torch.cuda.get_device_properties(device)
    architecture = getattr(properties, "gcnArchName", "").split(":")[0]
    return properties.name, architecture or f"sm_{properties.major}{properties.minor}"
