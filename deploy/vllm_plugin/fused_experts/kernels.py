"""Two launches for a layer's experts: gather + [w1|w3] + SwiGLU, then w2 × routing weight.

One source, compiled for NVIDIA and AMD and run by Triton's interpreter. A *slot* is one (token,
choice) pair, numbered token·k + choice; an expert below zero means that the slot is dropped. Which
slots share a tile comes from the ids themselves while there are few of them (``DIRECT``: no launch
before the first GEMM), and from ``fused_experts.plan`` otherwise.

Letters: T tokens, K choices per token, E experts, H hidden, I intermediate; BM × BN × BK a tile.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

#: How a weight's scale is stored: ``SCALE`` below.
NO_SCALE, CHANNEL_SCALE, BLOCK_SCALE = 0, 1, 2


@triton.jit
def local_expert(ids, expert_map, at, mask, HAS_MAP: tl.constexpr):
    """Expert of slot ``at`` on this rank, −1 where there is none."""
    expert = tl.load(ids + at, mask=mask, other=-1).to(tl.int32)
    if HAS_MAP:
        here = tl.load(expert_map + tl.maximum(expert, 0), mask=expert >= 0, other=-1)
        expert = tl.where(expert >= 0, here.to(tl.int32), -1)
    return expert


@triton.jit
def direct_tile(
    ids, expert_map, slots, slot, SLOTS: tl.constexpr, BM: tl.constexpr, HAS_MAP: tl.constexpr
):
    """The tile that ``slot`` leads: (expert or −1, slots [BM], valid [BM]).

    Of the slots of an expert every BM-th leads a tile with those that follow it; the others return
    −1.
    """
    every = tl.arange(0, SLOTS)
    experts = local_expert(ids, expert_map, every, every < slots, HAS_MAP)
    own = local_expert(ids, expert_map, slot, slot < slots, HAS_MAP)
    same = ((experts == own) & (own >= 0)).to(tl.int32)
    before = tl.sum(tl.where(every < slot, same, 0), 0)
    rank = tl.cumsum(same, 0) - 1 - before
    row = tl.arange(0, BM)
    member = (same[None, :] > 0) & (rank[None, :] == row[:, None])
    rows = tl.sum(tl.where(member, every[None, :], 0), 1)
    valid = row < tl.sum(same, 0) - before
    return tl.where(before % BM == 0, own, -1), rows, valid


@triton.jit
def planned_tile(
    order, starts, tile_ends, tile, E: tl.constexpr, EP: tl.constexpr, BM: tl.constexpr
):
    """Tile number ``tile`` of the plan: (expert or −1 past the last, slots [BM], valid [BM])."""
    expert = tl.arange(0, EP)
    ends = tl.load(tile_ends + expert, mask=expert < E, other=2147483647)
    own = tl.sum((ends <= tile).to(tl.int32), 0)
    inside = own < E
    first = tl.load(tile_ends + own - 1, mask=inside & (own > 0), other=0)
    start = tl.load(starts + own, mask=inside, other=0) + (tile - first) * BM
    at = start + tl.arange(0, BM)
    valid = at < tl.load(starts + own + 1, mask=inside, other=0)
    rows = tl.load(order + at, mask=valid, other=0)
    return tl.where(inside, own, -1), rows, valid


@triton.jit
def tile_of_program(tiles, COLUMNS: tl.constexpr, GROUP: tl.constexpr):
    """Row of tiles and column of tiles, GROUP rows side by side so that they share weights in L2.

    There are more programs than tiles: those past the last tile get a column past the last one.
    """
    program = tl.program_id(0)
    first = program // (GROUP * COLUMNS) * GROUP
    height = tl.maximum(tl.minimum(tiles - first, GROUP), 1)
    inside = program % (GROUP * COLUMNS)
    return first + inside % height, inside // height


@triton.jit
def find_tile(
    ids, expert_map, order, starts, tile_ends, slots,
    E: tl.constexpr, EP: tl.constexpr, SLOTS: tl.constexpr, HAS_MAP: tl.constexpr, DIRECT: tl.constexpr,
    COLUMNS: tl.constexpr, BM: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """(expert or −1, slots [BM], valid [BM], column of tiles) of this program."""
    if DIRECT:
        column = tl.program_id(0) % COLUMNS
        expert, rows, valid = direct_tile(
            ids, expert_map, slots, tl.program_id(0) // COLUMNS, SLOTS, BM, HAS_MAP
        )
    else:
        tile, column = tile_of_program(tl.load(tile_ends + E - 1), COLUMNS, GROUP)
        expert, rows, valid = planned_tile(order, starts, tile_ends, tile, E, EP, BM)
        expert = tl.where(column < COLUMNS, expert, -1)
    return expert, rows, valid, column


@triton.jit
def load_weights(at, inside_k, inside_n, EVEN_K: tl.constexpr, EVEN_N: tl.constexpr):
    """A [BK, BN] tile of weights, zero outside; masks are left out where nothing is outside."""
    if EVEN_K and EVEN_N:
        tile = tl.load(at)
    elif EVEN_K:
        tile = tl.load(at, mask=inside_n[None, :], other=0.0)
    else:
        tile = tl.load(at, mask=inside_k[:, None] & inside_n[None, :], other=0.0)
    return tile


@triton.jit
def dot(a, b, acc, INTERPRETED: tl.constexpr):
    """acc + a @ b. The interpreter keeps bf16 as bit patterns and would multiply those."""
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(a, b.to(a.dtype), acc, input_precision="ieee")


@triton.jit
def narrowed(value, to, INTERPRETED: tl.constexpr):
    """``value`` (fp32) in the type that ``to`` points at. The interpreter cuts bf16 off where a GPU rounds."""
    if INTERPRETED and to.dtype.element_ty == tl.bfloat16:
        bits = value.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        value = bits.to(tl.float32, bitcast=True)
    return value.to(to.dtype.element_ty)


@triton.jit
def gate_up_swiglu(
    x, w13, w13_scale, act, routing_weights, ids, expert_map, order, starts, tile_ends, slots,
    stride_x, stride_we, stride_wn, stride_act,
    H: tl.constexpr, I: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, K: tl.constexpr,  # noqa: E741
    SLOTS: tl.constexpr, HAS_MAP: tl.constexpr, DIRECT: tl.constexpr, ON_INPUT: tl.constexpr,
    SCALE: tl.constexpr, SCALE_N: tl.constexpr, SCALE_K: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """act[slot] = silu(w1[e] @ x[token]) · (w3[e] @ x[token]); [T·K, I], untouched where a slot is dropped."""
    COLUMNS: tl.constexpr = (I + BN - 1) // BN
    expert, rows, valid, column = find_tile(
        ids, expert_map, order, starts, tile_ends, slots,
        E, EP, SLOTS, HAS_MAP, DIRECT, COLUMNS, BM, GROUP,
    )  # fmt: skip
    if expert < 0:
        return
    n = column * BN + tl.arange(0, BN)
    inside_n = n < I
    k = tl.arange(0, BK)
    x_at = x + (rows // K).to(tl.int64)[:, None] * stride_x + k[None, :]
    gate_at = (
        w13 + expert.to(tl.int64) * stride_we + n[None, :].to(tl.int64) * stride_wn + k[:, None]
    )
    up_at = gate_at + I * stride_wn
    gate = tl.zeros((BM, BN), tl.float32)
    up = tl.zeros((BM, BN), tl.float32)
    if SCALE == 1:
        scale_at = w13_scale + expert.to(tl.int64) * (2 * I)
    if SCALE == 2:
        SCALES_K: tl.constexpr = (H + SCALE_K - 1) // SCALE_K
        scale_e = w13_scale + expert.to(tl.int64) * ((2 * I + SCALE_N - 1) // SCALE_N) * SCALES_K
        gate_scale_at = scale_e + (n // SCALE_N) * SCALES_K
        up_scale_at = scale_e + ((I + n) // SCALE_N) * SCALES_K
    for start in range(0, H, BK):
        inside_k = (start + k) < H
        if H % BK == 0:
            a = tl.load(x_at + start, mask=valid[:, None], other=0.0)
        else:
            a = tl.load(x_at + start, mask=valid[:, None] & inside_k[None, :], other=0.0)
        b_gate = load_weights(gate_at + start, inside_k, inside_n, H % BK == 0, I % BN == 0)
        b_up = load_weights(up_at + start, inside_k, inside_n, H % BK == 0, I % BN == 0)
        if SCALE == 2:
            zero = tl.zeros((BM, BN), tl.float32)
            s_gate = tl.load(gate_scale_at + start // SCALE_K, mask=inside_n, other=0.0)
            s_up = tl.load(up_scale_at + start // SCALE_K, mask=inside_n, other=0.0)
            gate += dot(a, b_gate, zero, INTERPRETED) * s_gate[None, :]
            up += dot(a, b_up, zero, INTERPRETED) * s_up[None, :]
        else:
            gate = dot(a, b_gate, gate, INTERPRETED)
            up = dot(a, b_up, up, INTERPRETED)
    if SCALE == 1:
        gate *= tl.load(scale_at + n, mask=inside_n, other=0.0)[None, :]
        up *= tl.load(scale_at + I + n, mask=inside_n, other=0.0)[None, :]
    if ON_INPUT:
        share = tl.load(routing_weights + rows, mask=valid, other=0.0).to(tl.float32)
        gate *= share[:, None]
        up *= share[:, None]
    hidden = gate / (1.0 + tl.exp(-gate)) * up
    act_at = act + rows.to(tl.int64)[:, None] * stride_act + n[None, :]
    tl.store(act_at, narrowed(hidden, act, INTERPRETED), mask=valid[:, None] & inside_n[None, :])


@triton.jit
def down_weighted(
    act, w2, w2_scale, out, routing_weights, ids, expert_map, order, starts, tile_ends, slots,
    stride_act, stride_we, stride_wn, stride_out,
    H: tl.constexpr, I: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, K: tl.constexpr,  # noqa: E741
    SLOTS: tl.constexpr, HAS_MAP: tl.constexpr, DIRECT: tl.constexpr, ON_INPUT: tl.constexpr,
    SCALE: tl.constexpr, SCALE_N: tl.constexpr, SCALE_K: tl.constexpr, ATOMIC: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """w2[e] @ act[slot] × routing weight, into out [T·K, H], or added to a zeroed fp32 out [T, H] (ATOMIC)."""
    COLUMNS: tl.constexpr = (H + BN - 1) // BN
    expert, rows, valid, column = find_tile(
        ids, expert_map, order, starts, tile_ends, slots,
        E, EP, SLOTS, HAS_MAP, DIRECT, COLUMNS, BM, GROUP,
    )  # fmt: skip
    if expert < 0:
        return
    n = column * BN + tl.arange(0, BN)
    inside_n = n < H
    k = tl.arange(0, BK)
    a_at = act + rows.to(tl.int64)[:, None] * stride_act + k[None, :]
    b_at = w2 + expert.to(tl.int64) * stride_we + n[None, :].to(tl.int64) * stride_wn + k[:, None]
    acc = tl.zeros((BM, BN), tl.float32)
    if SCALE == 2:
        SCALES_K: tl.constexpr = (I + SCALE_K - 1) // SCALE_K
        scale_e = w2_scale + expert.to(tl.int64) * ((H + SCALE_N - 1) // SCALE_N) * SCALES_K
        scale_at = scale_e + (n // SCALE_N) * SCALES_K
    for start in range(0, I, BK):
        inside_k = (start + k) < I
        if I % BK == 0:
            a = tl.load(a_at + start, mask=valid[:, None], other=0.0)
        else:
            a = tl.load(a_at + start, mask=valid[:, None] & inside_k[None, :], other=0.0)
        b = load_weights(b_at + start, inside_k, inside_n, I % BK == 0, H % BN == 0)
        if SCALE == 2:
            scale = tl.load(scale_at + start // SCALE_K, mask=inside_n, other=0.0)
            acc += dot(a, b, tl.zeros((BM, BN), tl.float32), INTERPRETED) * scale[None, :]
        else:
            acc = dot(a, b, acc, INTERPRETED)
    if SCALE == 1:
        acc *= tl.load(w2_scale + expert.to(tl.int64) * H + n, mask=inside_n, other=0.0)[None, :]
    if not ON_INPUT:
        share = tl.load(routing_weights + rows, mask=valid, other=0.0).to(tl.float32)
        acc *= share[:, None]
    mask = valid[:, None] & inside_n[None, :]
    if ATOMIC:
        out_at = out + (rows // K).to(tl.int64)[:, None] * stride_out + n[None, :]
        tl.atomic_add(out_at, acc, mask=mask, sem="relaxed")
    else:
        out_at = out + rows.to(tl.int64)[:, None] * stride_out + n[None, :]
        tl.store(out_at, narrowed(acc, out, INTERPRETED), mask=mask)


@triton.jit
def sum_slots(
    slot_out, out, ids, expert_map, stride_slot, stride_out,
    H: tl.constexpr, K: tl.constexpr, HAS_MAP: tl.constexpr, BH: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    """out[token] = Σ over its live slots, in their order: the same sum in every run."""
    token = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BH + tl.arange(0, BH)
    total = tl.zeros((BH,), tl.float32)
    for choice in range(K):
        slot = token * K + choice
        live = local_expert(ids, expert_map, slot, slot >= 0, HAS_MAP) >= 0
        part = tl.load(slot_out + slot * stride_slot + n, mask=n < tl.where(live, H, 0), other=0.0)
        total += part.to(tl.float32)
    tl.store(out + token * stride_out + n, narrowed(total, out, INTERPRETED), mask=n < H)
