"""Every tile has each of its columns once, and programs that are too many do nothing."""

# mypy: ignore-errors
from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from fused_experts import ExpertWeights, reference
from fused_experts.grouped import grouped_experts
from fused_experts.kernels import find_tile
from fused_experts.plan import plan_slots

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("default")]


@triton.jit
def look(  # noqa: PLR0917
    ids, order, starts, tile_ends, slots, found,
    E: tl.constexpr, EP: tl.constexpr, COLUMNS: tl.constexpr, BM: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """found[program] = expert or -1, the first slot of the tile, its column."""
    expert, rows, _, column = find_tile(
        ids, ids, order, starts, tile_ends, slots, E, EP, 1, False, False, COLUMNS, BM, GROUP
    )
    at = found + 3 * tl.program_id(0)
    tl.store(at, expert)
    tl.store(at + 1, tl.sum(tl.where(tl.arange(0, BM) == 0, rows, 0), 0))
    tl.store(at + 2, column)


@pytest.mark.parametrize("group", [1, 3, 8])
@pytest.mark.parametrize(("tokens", "experts", "columns"), [(40, 8, 5), (70, 3, 4), (90, 5, 1)])
def test_every_column_of_every_tile_once(
    tokens: int, experts: int, columns: int, group: int
) -> None:
    block_m = 16
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.rand(tokens, experts, generator=generator).topk(2).indices.int()
    plan = plan_slots(ids, experts, block_m)
    programs = (ids.numel() // block_m + min(experts, ids.numel())) * columns
    found = torch.full((programs, 3), -7, dtype=torch.int32)
    padded = triton.next_power_of_2(experts)
    look[(programs,)](
        ids, plan.order, plan.starts, plan.tile_ends, ids.numel(), found,
        experts, padded, columns, block_m, group,
    )  # fmt: skip
    live = [tuple(row) for row in found.tolist() if row[0] >= 0]
    assert int(plan.tile_ends[-1]) * columns < programs, "some are too many"
    assert len(live) == len(set(live)) == int(plan.tile_ends[-1]) * columns
    assert {column for _, _, column in live} == set(range(columns))


def test_torchs_grouped_product_is_the_same_layer() -> None:
    generator = torch.Generator().manual_seed(3)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator).bfloat16()

    weights = ExpertWeights(normal(6, 2 * 48, 64) / 8, normal(6, 64, 48) / 7)
    x, ids = normal(20, 64), torch.randint(0, 6, (20, 2), generator=generator, dtype=torch.int32)
    shares = torch.rand(20, 2, generator=generator)
    expected = reference(x, weights, shares, ids)
    found = grouped_experts(x, weights, shares, ids)
    assert float((found.double() - expected).norm() / expected.norm()) < 0.02
