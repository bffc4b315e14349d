"""Measure which tiles are fastest on this GPU and store them: ``python -m fused_experts.tune --help``.

Writes ``tables/<device>.json``, which ``tiles.choose`` reads. ``write_stock`` stores settings of
vLLM's own kernel under the name and in the form that vLLM looks for in
``VLLM_TUNED_CONFIG_FOLDER``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
import triton

from fused_experts.launch import fused_experts
from fused_experts.tiles import DIRECT_SLOTS, TABLES, Shape, Tile, Tiles, as_json, fitted
from fused_experts.weights import ExpertWeights

#: The two served models whose shapes vLLM 0.32 ships no settings for on an H100.
LAYERS = {
    "qwen3-30b-a3b": Shape(experts=128, hidden=2048, intermediate=768, top_k=8),
    "mixtral-8x7b": Shape(experts=8, hidden=4096, intermediate=14336, top_k=2),
}
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def time_us(call: Callable[[], object], repeats: int = 50) -> float:
    """Median microseconds of ``call`` replayed from a CUDA graph, L2 emptied before each."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    flushed = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    times = []
    for _ in range(repeats):
        flushed.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def layer_of(
    shape: Shape, dtype: torch.dtype = torch.bfloat16, device: str = "cuda"
) -> ExpertWeights:
    """Random weights of ``shape``."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, dtype=dtype, device=device, generator=generator)

    w13 = normal(shape.experts, 2 * shape.intermediate, shape.hidden) / shape.hidden**0.5
    w2 = normal(shape.experts, shape.hidden, shape.intermediate) / shape.intermediate**0.5
    return ExpertWeights(w13, w2)


def batch_of(
    tokens: int, shape: Shape, dtype: torch.dtype = torch.bfloat16, device: str = "cuda"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, routing weights and ids of a batch routed uniformly at random."""
    generator = torch.Generator(device).manual_seed(tokens)
    x = torch.randn(tokens, shape.hidden, dtype=dtype, device=device, generator=generator)
    logits = torch.randn(tokens, shape.experts, device=device, generator=generator)
    shares, ids = logits.softmax(-1).topk(shape.top_k)
    return x, shares / shares.sum(-1, keepdim=True), ids.int()


def candidates(tokens: int, shape: Shape) -> Iterator[Tiles]:
    """Tiles worth trying for ``tokens`` tokens; the second GEMM is varied with the first."""
    rows = tokens * shape.top_k / shape.experts
    heights = [m for m in (16, 32, 64, 128) if m <= max(16, triton.next_power_of_2(int(2 * rows)))]
    direct_too = [True, False] if tokens * shape.top_k <= DIRECT_SLOTS else [False]
    grid = itertools.product(
        heights, (32, 64, 128), (64, 128), ((4, 3), (4, 4), (8, 3)), (1, 8), direct_too
    )
    seen = set()
    for block_m, block_n, block_k, (warps, stages), group, direct in grid:
        up = Tile(block_n, block_k, warps, stages, group)
        down = Tile(min(2 * block_n, 256), block_k, warps, stages, group)
        try:
            tiles = fitted(Tiles(block_m, up, down, direct), shape, "sm_90")
        except ValueError:
            continue
        if tiles not in seen:
            seen.add(tiles)
            yield tiles


def tune(shape: Shape, token_counts: tuple[int, ...]) -> dict[int, Tiles]:
    """The fastest tiles for each number of tokens, measured on the current GPU."""
    weights = layer_of(shape)
    best: dict[int, Tiles] = {}
    for tokens in token_counts:
        x, shares, ids = batch_of(tokens, shape)
        call = partial(fused_experts, x, weights, shares, ids)
        times: dict[Tiles, float] = {}
        for tiles in candidates(tokens, shape):
            try:
                times[tiles] = time_us(partial(call, tiles=tiles), repeats=15)
            except triton.runtime.errors.OutOfResources:
                continue  # the device says what it cannot hold; the next tile may fit
        best[tokens] = min(times, key=times.__getitem__)
        print(
            f"{shape.key} tokens={tokens}: {times[best[tokens]]:.1f} us {best[tokens]}", flush=True
        )
    return best


def write_table(
    device: str, shape: Shape, best: Mapping[int, Tiles], folder: Path = TABLES
) -> Path:
    """Add ``best`` to the device's table, which keeps its other shapes."""
    path = folder / f"{device.replace(' ', '_')}.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored[shape.key] = {str(tokens): as_json(tiles) for tokens, tiles in sorted(best.items())}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    return path


def write_stock(
    device: str, shape: Shape, best: Mapping[int, Mapping[str, int]], folder: Path
) -> Path:
    """Settings of vLLM's own kernel by number of tokens, in the file that vLLM looks for.

    Each entry has BLOCK_SIZE_M, BLOCK_SIZE_N, BLOCK_SIZE_K, GROUP_SIZE_M, num_warps and num_stages.
    """
    name = f"E={shape.experts},N={shape.intermediate},device_name={device.replace(' ', '_')}.json"
    folder.mkdir(parents=True, exist_ok=True)
    stored = {str(tokens): dict(entry) for tokens, entry in sorted(best.items())}
    (folder / name).write_text(json.dumps(stored, indent=4) + "\n")
    return folder / name


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fused_experts.tune", description=__doc__)
    parser.add_argument("--layer", choices=LAYERS, action="append", help="default: all of them")
    parser.add_argument("--out", type=Path, default=TABLES, help="folder of the table")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a GPU: without one the built-in rule chooses the tiles")
    device = torch.cuda.get_device_name()
    for name in asked.layer or LAYERS:
        print(write_table(device, LAYERS[name], tune(LAYERS[name], TOKENS), asked.out))


if __name__ == "__main__":
    main()
