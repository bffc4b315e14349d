"""Everything that needs the GPU, in one run: ``python -m thalamus_vllm.measure docs/kernels.md``.

Checks our kernels there against float64, then times them, vLLM's own kernel (torch's grouped matrix
product where vLLM is not installed) and the roofline for the same layers and batches, interleaved,
and rewrites the table between the page's markers. ``--tune`` measures tiles first, ours and, as a
file for stock vLLM, those of vLLM's kernel.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import triton
from fused_experts.grouped import grouped_experts
from fused_experts.launch import fused_experts
from fused_experts.reference import reference
from fused_experts.tiles import Shape, table_of
from fused_experts.tune import (
    LAYERS,
    TOKENS,
    batch_of,
    layer_of,
    time_us,
    tune,
    write_stock,
    write_table,
)
from fused_experts.weights import ExpertWeights, quantised

COUNTS = (1, 16, 64, 512, 4096)
#: H100 SXM: HBM3 bandwidth, and the dense bf16 rate that matrix libraries reach.
BYTES_PER_S, FLOPS_PER_S = 3.35e12, 800e12
TOLERANCES = {torch.float16: 1e-3, torch.bfloat16: 1e-2}
ROUNDS = 3
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
#: The layer by other means: x, weights, routing weights, ids.
Other = Callable[[torch.Tensor, ExpertWeights, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Row:
    layer: str
    tokens: int
    ours_us: float
    other_us: float
    floor_us: float
    tflops: float


def floor_us(ids: torch.Tensor, shape: Shape) -> float:
    """Roofline of these very ids: chosen experts' weights and activations once, or the arithmetic."""
    tokens, distinct = ids.shape[0], int(torch.unique(ids).numel())
    weights = distinct * 3 * shape.hidden * shape.intermediate * shape.weight_bytes
    activations = 2 * tokens * shape.hidden * 2 + 2 * ids.numel() * shape.intermediate * 2
    return max((weights + activations) / BYTES_PER_S, _flops(tokens, shape) / FLOPS_PER_S) * 1e6


def _flops(tokens: int, shape: Shape) -> float:
    return 2.0 * tokens * shape.top_k * 3 * shape.hidden * shape.intermediate


def check_all() -> None:
    """Exit where a kernel on this GPU is further from float64 than its type allows."""
    shape = Shape(experts=16, hidden=512, intermediate=384, top_k=4)
    for dtype, tokens in itertools.product(TOLERANCES, (1, 7, 64, 300, 2048)):
        weights = layer_of(shape, dtype)
        x, shares, ids = batch_of(tokens, shape, dtype)
        ids[::3, -1] = -1
        scaled = [quantised(weights.w13, weights.w2, block) for block in (None, (128, 128))]
        for held, atomic in itertools.product((weights, *scaled), (False, True)):
            _check(x, held, shares, ids, atomic)
        once, again = (fused_experts(x, weights, shares, ids) for _ in range(2))
        if not torch.equal(once, again):
            sys.exit("the default reduction gave two results for one batch")
    print("kernels agree with float64 on", torch.cuda.get_device_name())


def _check(
    x: torch.Tensor, weights: ExpertWeights, shares: torch.Tensor, ids: torch.Tensor, atomic: bool
) -> None:
    expected = reference(x, weights, shares, ids)
    found = fused_experts(x, weights, shares, ids, atomic=atomic)
    error = float((found.double() - expected).norm() / expected.norm())
    if not error <= TOLERANCES[x.dtype]:
        sys.exit(
            f"{x.dtype} x, {weights.w13.dtype} weights, ids {tuple(ids.shape)}: error {error:.1e}"
        )


def measure(layer: str, other: Other) -> Iterator[Row]:
    """Ours and ``other``, alternating ``ROUNDS`` times; each number is a median of medians."""
    shape, weights = LAYERS[layer], layer_of(LAYERS[layer])
    for tokens in COUNTS:
        x, shares, ids = batch_of(tokens, shape)
        calls: dict[str, Callable[[], object]] = {
            "ours": partial(fused_experts, x, weights, shares, ids),
            "other": partial(other, x, weights, shares, ids),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                times[name].append(time_us(call))
        ours, theirs = (statistics.median(times[name]) for name in ("ours", "other"))
        yield Row(
            layer, tokens, ours, theirs, floor_us(ids, shape), _flops(tokens, shape) / ours / 1e6
        )


def _vllms_experts() -> Other:
    from vllm.model_executor.layers.fused_moe.fused_moe import fused_experts as stock

    def experts(
        x: torch.Tensor, weights: ExpertWeights, shares: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        out: torch.Tensor = stock(x, weights.w13, weights.w2, shares, ids)
        return out

    return experts


def tune_stock(shape: Shape) -> dict[int, dict[str, int]]:
    """The fastest settings of vLLM's own kernel for each number of tokens."""
    from vllm.model_executor.layers.fused_moe import override_config
    from vllm.model_executor.layers.fused_moe.fused_moe import fused_experts as stock

    names = (
        "BLOCK_SIZE_M",
        "BLOCK_SIZE_N",
        "BLOCK_SIZE_K",
        "GROUP_SIZE_M",
        "num_warps",
        "num_stages",
    )
    grid = list(itertools.product((16, 32, 64, 128), (64, 128), (64, 128), (1, 16), (4, 8), (3, 4)))
    weights = layer_of(shape)
    best: dict[int, dict[str, int]] = {}
    for tokens in TOKENS:
        x, shares, ids = batch_of(tokens, shape)
        times = {}
        for values in grid:
            with override_config(dict(zip(names, values, strict=True))):
                try:
                    call = partial(stock, x, weights.w13, weights.w2, shares, ids)
                    times[values] = time_us(call, repeats=10)
                except triton.runtime.errors.OutOfResources as error:  # what this GPU cannot hold
                    print(f"{values}: {error}", file=sys.stderr)
        fastest = min(times, key=times.__getitem__)
        best[tokens] = dict(zip(names, fastest, strict=True))
    return best


def table(rows: list[Row], device: str, other: str) -> str:
    """The rows as Markdown; ``other`` names what ours was compared with."""
    head = (
        f"Measured on {device} (torch {torch.__version__}, Triton {triton.__version__}), bf16, "
        "microseconds under a CUDA graph with a cold L2.\n\n"
        f"| layer | tokens | ours | {other} | ratio | floor | ours / floor | TFLOP/s |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    lines = [
        f"| {row.layer} | {row.tokens} | {row.ours_us:.1f} | {row.other_us:.1f} "
        f"| {row.other_us / row.ours_us:.2f} | {row.floor_us:.1f} "
        f"| {row.ours_us / row.floor_us:.2f} | {row.tflops:.0f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m thalamus_vllm.measure", description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument(
        "--tune", type=Path, metavar="FOLDER", help="stock vLLM's settings go there"
    )
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a GPU; without one the table says so")
    device = torch.cuda.get_device_name()
    check_all()
    has_vllm = find_spec("vllm") is not None
    if asked.tune:
        for shape in LAYERS.values():
            print(write_table(device, shape, tune(shape, TOKENS)))
            if has_vllm:
                print(write_stock(device, shape, tune_stock(shape), asked.tune))
        table_of.cache_clear()
    other = _vllms_experts() if has_vllm else grouped_experts
    rows = [row for layer in LAYERS for row in measure(layer, other)]
    text = table(rows, device, "vLLM's kernel" if has_vllm else "torch's grouped product")
    before, rest = asked.page.read_text().split(BEGIN)
    asked.page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    print(text)


if __name__ == "__main__":
    main()
