"""The Triton source against float64, drawn at random; run by the interpreter."""

from __future__ import annotations

import pytest
import torch
from fused_experts import ExpertWeights, fused_experts, quantised, reference
from fused_experts.plan import plan_slots
from fused_experts.tiles import Tile, Tiles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("default")]
checked = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)

TOLERANCES = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
TILES = [
    Tiles(16, Tile(32, 32, 4, 2), Tile(32, 64, 4, 2), direct=True),
    Tiles(16, Tile(32, 32, 4, 2), Tile(64, 32, 4, 2)),
    Tiles(64, Tile(64, 32, 4, 2), Tile(64, 64, 4, 2, group=1)),
]


@st.composite
def batches(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...]) -> dict[str, object]:
    """A layer and a batch: ragged sizes, dropped slots, idle experts, strangers' experts."""
    seed = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    experts, top_k = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    tokens = draw(st.integers(0, 40))
    hidden, intermediate = (draw(st.sampled_from([16, 40, 64, 96, 136])) for _ in range(2))
    dtype = draw(st.sampled_from(dtypes))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=seed)

    ranks = draw(st.sampled_from([1, 2]))
    world = experts * ranks
    ids = torch.randint(0, world, (tokens, top_k), generator=seed, dtype=torch.int32)
    ids[torch.rand(ids.shape, generator=seed) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = -1
    expert_map = None
    if ranks > 1:
        expert_map = torch.full((world,), -1, dtype=torch.int32)
        mine = torch.randperm(world, generator=seed)[:experts]
        expert_map[mine] = torch.arange(experts, dtype=torch.int32)
    return {
        "x": normal(tokens, hidden).to(dtype),
        "w13": normal(experts, 2 * intermediate, hidden) / hidden**0.5,
        "w2": normal(experts, hidden, intermediate) / intermediate**0.5,
        "routing_weights": normal(tokens, top_k).softmax(-1),
        "ids": ids,
        "expert_map": expert_map,
        "tiles": draw(st.sampled_from([*TILES, None])),
        "atomic": draw(st.booleans()),
        "weight_on_input": draw(st.booleans()),
    }


def assert_right(batch: dict[str, object], weights: ExpertWeights) -> None:
    x = batch["x"]
    assert isinstance(x, torch.Tensor)
    del batch["w13"], batch["w2"]
    expected_of = {k: v for k, v in batch.items() if k not in {"tiles", "atomic"}}
    expected = reference(weights=weights, **expected_of)
    found = fused_experts(weights=weights, **batch)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    error = (found.double() - expected).norm()
    assert error <= TOLERANCES[x.dtype] * expected.norm()


@checked
@given(batches((torch.float32, torch.float16, torch.bfloat16)))
def test_equals_float64(batch: dict[str, object]) -> None:
    dtype = batch["x"].dtype
    assert_right(batch, ExpertWeights(batch["w13"].to(dtype), batch["w2"].to(dtype)))


@checked
@given(batches((torch.float16, torch.bfloat16)), st.sampled_from([None, (32, 32), (128, 128)]))
def test_fp8_weights_equal_float64_of_what_they_hold(
    batch: dict[str, object], block: tuple[int, int] | None
) -> None:
    assert_right(batch, quantised(batch["w13"], batch["w2"], block))


def test_default_reduction_repeats_itself_to_the_bit() -> None:
    torch.manual_seed(0)
    weights = ExpertWeights(torch.randn(4, 64, 32), torch.randn(4, 32, 32))
    x, shares = torch.randn(20, 32), torch.randn(20, 2).softmax(-1)
    ids = torch.randint(0, 4, (20, 2), dtype=torch.int32)
    once, again = (fused_experts(x, weights, shares, ids) for _ in range(2))
    assert torch.equal(once, again)


def test_the_given_buffer_is_filled_and_returned() -> None:
    weights = ExpertWeights(torch.ones(2, 32, 16), torch.ones(2, 16, 16))
    out = torch.full((3, 16), float("nan"))
    ids = torch.full((3, 1), -1, dtype=torch.int32)
    found = fused_experts(torch.ones(3, 16), weights, torch.ones(3, 1), ids, out=out)
    assert found is out
    assert torch.equal(out, torch.zeros(3, 16))


@checked
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**31), st.sampled_from([16, 64]))
def test_a_plan_sorts_every_live_slot_stably(
    tokens: int, experts: int, seed: int, block_m: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(-1, experts, (tokens, 2), generator=generator, dtype=torch.int32)
    plan = plan_slots(ids, experts, block_m)
    flat = ids.reshape(-1)
    expected = torch.argsort(flat, stable=True)[int((flat < 0).sum()) :]
    count = torch.bincount(flat[flat >= 0], minlength=experts)
    assert plan.order[: len(expected)].tolist() == expected.tolist()
    assert plan.starts.tolist() == [0, *count.cumsum(0).tolist()]
    assert plan.tile_ends.tolist() == ((count + block_m - 1) // block_m).cumsum(0).tolist()


@pytest.mark.parametrize(
    ("x", "ids", "message"),
    [
        (torch.ones(2, 8), torch.zeros(2, 1), "must be \\[tokens, 16\\]"),
        (torch.ones(2, 16), torch.zeros(3, 1), "must both be"),
        (torch.ones(2, 16, dtype=torch.float16), torch.zeros(2, 1), "the weights are"),
        (torch.ones(2, 16, dtype=torch.int32), torch.zeros(2, 1), "must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(x: torch.Tensor, ids: torch.Tensor, message: str) -> None:
    weights = ExpertWeights(torch.ones(2, 32, 16), torch.ones(2, 16, 16))
    with pytest.raises(ValueError, match=message):
        fused_experts(x, weights, torch.ones(2, 1), ids.int())


def test_weights_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="asks for w2"):
        ExpertWeights(torch.ones(2, 32, 16), torch.ones(2, 16, 8))
    right = quantised(torch.ones(2, 32, 16), torch.ones(2, 16, 16))
    with pytest.raises(ValueError, match="expected \\(2, 32\\)"):
        ExpertWeights(right.w13, right.w2, torch.ones(2, 4), right.w2_scale)
