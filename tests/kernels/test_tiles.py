"""Tables come back as written; the rule fits every device; vLLM finds the file written for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fused_experts import tiles as tiles_module
from fused_experts.tiles import SHARED_MEMORY, Shape, Tile, Tiles, choose, rule
from fused_experts.tune import LAYERS, TOKENS, candidates, write_stock, write_table
from thalamus_vllm.measure import Row, floor_us, table

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("default")]

QWEN = LAYERS["qwen3-30b-a3b"]


def shared_memory(tiles: Tiles, shape: Shape) -> int:
    def of(tile: Tile, weights: int) -> int:
        columns = weights * tile.block_n * shape.weight_bytes
        return tile.stages * tile.block_k * (tiles.block_m * 2 + columns)

    return max(of(tiles.up, 2), of(tiles.down, 1))


@pytest.mark.parametrize("architecture", SHARED_MEMORY)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_rule_fits_shared_memory(architecture: str, layer: str) -> None:
    for tokens in TOKENS:
        tiles = rule(tokens, LAYERS[layer], architecture)
        assert shared_memory(tiles, LAYERS[layer]) <= SHARED_MEMORY[architecture]
        slots = tokens * LAYERS[layer].top_k
        assert tiles.direct == (slots <= 256 and slots <= 8 * LAYERS[layer].experts)


def test_prefill_tiles_are_tall_enough_for_wgmma() -> None:
    assert rule(1, QWEN).block_m == 16
    assert rule(4096, QWEN).block_m >= 64


def test_a_written_table_is_chosen_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = list(candidates(4, QWEN))[:2]
    write_table("Some GPU", QWEN, {4: small, 64: large}, tmp_path)
    monkeypatch.setattr(tiles_module, "TABLES", tmp_path)
    tiles_module.table_of.cache_clear()
    assert choose(1, QWEN, "Some GPU") == small
    assert choose(4, QWEN, "Some GPU") == small
    assert choose(5, QWEN, "Some GPU") == large
    assert choose(9999, QWEN, "Some GPU") == large
    assert choose(4, LAYERS["mixtral-8x7b"], "Some GPU") == rule(4, LAYERS["mixtral-8x7b"])
    tiles_module.table_of.cache_clear()


def test_stock_settings_carry_vllms_name(tmp_path: Path) -> None:
    entry = {
        "BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 128,
        "GROUP_SIZE_M": 1, "num_warps": 4, "num_stages": 4,
    }  # fmt: skip
    path = write_stock("NVIDIA H100 80GB HBM3", QWEN, {1: entry}, tmp_path)
    assert path.name == "E=128,N=768,device_name=NVIDIA_H100_80GB_HBM3.json"
    assert json.loads(path.read_text()) == {"1": entry}


def test_the_floor_is_weights_once_or_arithmetic() -> None:
    one = torch.arange(8)[None]
    assert floor_us(one, QWEN) == pytest.approx(8 * 3 * 2048 * 768 * 2 / 3.35e6, rel=1e-3)
    assert floor_us(one.repeat(2, 1), QWEN) == pytest.approx(floor_us(one, QWEN), rel=1e-3)
    many = torch.arange(2).repeat(4096, 1)
    mixtral = LAYERS["mixtral-8x7b"]
    assert floor_us(many, mixtral) == pytest.approx(3608, rel=1e-3)


def test_a_measured_row_says_how_far_it_is_from_stock_and_floor() -> None:
    text = table([Row("moe", 16, 50.0, 100.0, 40.0, 300.0)], "Some GPU", "another kernel")
    assert "| layer | tokens | ours | another kernel | ratio |" in text
    assert "| moe | 16 | 50.0 | 100.0 | 2.00 | 40.0 | 1.25 | 300 |" in text
