"""Tile sizes: measured ones from a table per GPU, a rule for the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent / "tables"
#: Up to this many slots the GEMMs find their tiles themselves; it costs each program a look at all ids.
DIRECT_SLOTS = 256
#: What a program may hold, in bytes, by architecture (CUDA programming guide; AMD's LDS).
SHARED_MEMORY = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448, "gfx942": 65_536}


@dataclass(frozen=True)
class Shape:
    """A layer's experts on one GPU: E local experts, H hidden, I intermediate, k choices per token."""

    experts: int
    hidden: int
    intermediate: int
    top_k: int
    weight_bytes: int = 2
    #: Whether the weights have a scale per block: a second accumulator while summing.
    blocked: bool = False

    @property
    def key(self) -> str:
        sizes = f"E={self.experts},H={self.hidden},I={self.intermediate}"
        scales = ",blocked" if self.blocked else ""
        return f"{sizes},k={self.top_k},bytes={self.weight_bytes}{scales}"


@dataclass(frozen=True)
class Tile:
    """One GEMM's tile: ``block_n`` columns of weights by ``block_k`` of the sum, on ``warps`` warps."""

    block_n: int
    block_k: int
    warps: int
    stages: int
    group: int = 8


@dataclass(frozen=True)
class Tiles:
    """Both GEMMs' tiles; they share the rows of a tile, so ``block_m`` is one number."""

    block_m: int
    up: Tile
    down: Tile
    direct: bool = False


def choose(tokens: int, shape: Shape, device: str = "", architecture: str = "sm_90") -> Tiles:
    """Tiles measured for the least number of tokens that is not smaller, else the rule's."""
    measured = table_of(device).get(shape.key, {})
    if measured:
        fitting = [count for count in measured if count >= tokens]
        return measured[min(fitting) if fitting else max(measured)]
    return rule(tokens, shape, architecture)


@cache
def table_of(device: str) -> dict[str, dict[int, Tiles]]:
    """Shape key → tokens → tiles, as ``fused_experts.tune`` wrote them; empty if it never ran there."""
    path = TABLES / f"{device.replace(' ', '_')}.json"
    if not device or not path.exists():
        return {}
    stored = json.loads(path.read_text())
    return {
        key: {int(tokens): tiles_from(entry) for tokens, entry in entries.items()}
        for key, entries in stored.items()
    }


def tiles_from(entry: dict[str, Any]) -> Tiles:
    """The inverse of ``dataclasses.asdict``."""
    return Tiles(entry["block_m"], Tile(**entry["up"]), Tile(**entry["down"]), entry["direct"])


def rule(tokens: int, shape: Shape, architecture: str = "sm_90") -> Tiles:
    """Tiles where nothing was measured.

    Few rows per expert: the weights' bytes bound the time, so narrow tiles that spread each expert
    over many programs, deep prefetch, 16 rows, or 32 so that no expert is read twice. Many rows:
    tiles of 64 or 128 rows, which Hopper runs as wgmma.
    """
    slots = tokens * shape.top_k
    rows = slots / shape.experts
    amd = architecture.startswith("gfx")
    if slots <= DIRECT_SLOTS and rows <= 8:
        narrow = slots * (shape.intermediate // 64) < 2 * 132
        up = Tile(32 if narrow else 64, 128, 4, 4, group=1)
        down = Tile(32 if narrow else 64, 128, 4, 4, group=1)
        chosen = Tiles(16, up, down, direct=True)
    elif rows <= 24:
        height, group = (16, 1) if rows <= 8 else (32, 8)
        chosen = Tiles(height, Tile(64, 128, 4, 4, group), Tile(128, 128, 4, 4, group))
    elif rows <= 96:
        chosen = Tiles(64, Tile(64, 64, 4, 4, 8), Tile(128, 64, 4, 4, 8))
    elif amd:
        chosen = Tiles(64, Tile(128, 32, 8, 2, 8), Tile(128, 64, 8, 2, 8))
    elif architecture == "sm_80" or shape.blocked:  # accumulators in registers: wider tiles spill
        chosen = Tiles(128, Tile(64, 64, 8, 3, 8), Tile(128, 64, 8, 3, 8))
    else:
        chosen = Tiles(128, Tile(128, 64, 8, 3, 8), Tile(256, 64, 8, 3, 8))
    return fitted(chosen, shape, architecture)


def fitted(tiles: Tiles, shape: Shape, architecture: str) -> Tiles:
    """The same tiles with as many stages as the device's shared memory takes, at least two."""
    limit = SHARED_MEMORY.get(architecture, SHARED_MEMORY["sm_90"])

    def fit(tile: Tile, weights: int) -> Tile:
        block_k = tile.block_k
        while block_k > 16:
            stage = block_k * (tiles.block_m * 2 + weights * tile.block_n * shape.weight_bytes)
            stages = min(tile.stages, limit // stage)
            if stages >= 2:
                return Tile(tile.block_n, block_k, tile.warps, stages, tile.group)
            block_k //= 2
        raise ValueError(f"no stage of {tile} fits {limit} bytes of shared memory")

    return Tiles(tiles.block_m, fit(tiles.up, 2), fit(tiles.down, 1), tiles.direct)


def as_json(tiles: Tiles) -> dict[str, Any]:
    return asdict(tiles)
