"""Compile the kernels for GPUs that are not here, and read what came out.

``python -m fused_experts.compiled docs/kernels.md`` rewrites the table between the page's markers.
Triton brings ptxas, cuobjdump and an AMD back end with it; no driver is needed.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fused_experts import kernels, plan, tally
from fused_experts.tiles import DIRECT_SLOTS, SHARED_MEMORY, Shape, Tile, Tiles, rule
from fused_experts.tune import LAYERS

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
TOKENS = (1, 64, 512, 4096)
QWEN = LAYERS["qwen3-30b-a3b"]
#: bf16 layers everywhere; fp8 weights, scaled per channel or block, where the hardware knows e4m3.
COMPILED = {
    **{name: (shape, kernels.NO_SCALE) for name, shape in LAYERS.items()},
    "qwen3 fp8, channels": (replace(QWEN, weight_bytes=1), kernels.CHANNEL_SCALE),
    "qwen3 fp8, blocks": (replace(QWEN, weight_bytes=1, blocked=True), kernels.BLOCK_SCALE),
}
HAS_E4M3 = {"sm_90", "sm_100"}
BLOCK = 128
BEGIN, END = "<!-- compiled: begin -->", "<!-- compiled: end -->"
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
MATRIX = {"sm_80": r"\bmma\.sync", "sm_90": r"wgmma\.mma_async", "sm_100": r"tcgen05\.mma"}


@dataclass(frozen=True)
class Compiled:
    """One kernel for one architecture. ``spilled``: bytes of stack a thread, on AMD registers."""

    architecture: str
    layer: str
    tokens: str
    kernel: str
    tile: str
    warps: int
    stages: int
    registers: int
    spilled: int
    shared_bytes: int
    matrix_instruction: str


def wanted(architecture: str, layer: str) -> dict[Tiles, list[int]]:
    """The rule's distinct tiles and the numbers of tokens that use them."""
    uses: dict[Tiles, list[int]] = {}
    for tokens in TOKENS:
        uses.setdefault(rule(tokens, COMPILED[layer][0], architecture), []).append(tokens)
    return uses


def compile_all(architecture: str, layer: str) -> Iterator[Compiled]:
    """Both GEMMs of ``layer`` at every tile that the rule picks for it."""
    for tiles, tokens in wanted(architecture, layer).items():
        for kernel, tile in (("gate_up_swiglu", tiles.up), ("down_weighted", tiles.down)):
            yield compile_one(architecture, layer, tokens, kernel, tiles, tile)


def compile_one(
    architecture: str, layer: str, tokens: list[int], kernel: str, tiles: Tiles, tile: Tile
) -> Compiled:
    """Compile one kernel and read its registers, spills, shared memory and instructions."""
    shape, scale = COMPILED[layer]
    slots = max(tokens) * shape.top_k
    source = source_of(getattr(kernels, kernel), shape, tiles, tile, slots=slots, scale=scale)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    binary = triton.compile(source, target=TARGETS[architecture], options=options)
    if architecture.startswith("gfx"):
        registers, spilled, matrix = _read_amd(binary.asm["amdgcn"])
    else:
        registers, spilled = _read_cubin(binary.asm["cubin"])
        matrix = _matrix_instruction(binary.asm["ptx"], architecture)
    return Compiled(
        architecture,
        layer,
        ", ".join(map(str, tokens)),
        kernel,
        f"{tiles.block_m}×{tile.block_n}×{tile.block_k}",
        tile.warps,
        tile.stages,
        registers,
        spilled,
        binary.metadata.shared,
        matrix,
    )


def source_of(
    kernel: triton.JITFunction, shape: Shape, tiles: Tiles, tile: Tile, *, slots: int, scale: int
) -> ASTSource:
    """The kernel with bf16 activations and fixed sizes, as a launch on aligned tensors sees it."""
    weights = "*bf16" if scale == kernels.NO_SCALE else "*fp8e4nv"
    pointers = {
        **dict.fromkeys(("x", "act", "out"), "*bf16"),
        **dict.fromkeys(("w13", "w2"), weights),
        **dict.fromkeys(("w13_scale", "w2_scale", "routing_weights"), "*fp32"),
    }
    step = BLOCK if scale == kernels.BLOCK_SCALE else 1
    fixed = {
        "H": shape.hidden, "I": shape.intermediate, "E": shape.experts, "K": shape.top_k,
        "EP": triton.next_power_of_2(shape.experts),
        "SLOTS": triton.next_power_of_2(slots) if tiles.direct else 1,
        "HAS_MAP": False, "DIRECT": tiles.direct, "ON_INPUT": False, "ATOMIC": False,
        "SCALE": scale, "SCALE_N": step, "SCALE_K": step, "INTERPRETED": False,
        "BM": tiles.block_m, "BN": tile.block_n, "BK": tile.block_k, "GROUP": tile.group,
    }  # fmt: skip
    types = {
        name: "constexpr" if name in fixed
        else "i32" if name == "slots" or name.startswith("stride")
        else pointers.get(name, "*i32")
        for name in kernel.arg_names
    }  # fmt: skip
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(kernel.arg_names)
        if types[name].startswith("*") or name.startswith("stride")
    }
    constants = {(at,): fixed[n] for at, n in enumerate(kernel.arg_names) if n in fixed}
    return ASTSource(kernel, types, constants, aligned)


def compile_small() -> dict[str, int]:
    """Spills of the launches around the GEMMs, for each architecture, at Qwen3's number of experts."""
    sizes = {
        "E": QWEN.experts, "EP": QWEN.experts, "K": QWEN.top_k, "H": QWEN.hidden, "BH": 1024,
        "CH": plan.CHUNK, "SCAN": plan.SCANNED, "HAS_MAP": True, "INTERPRETED": False,
    }  # fmt: skip
    launches = {
        "count_chunk": (plan.count_chunk, {}, 4),
        "scan_chunks": (plan.scan_chunks, {}, 8),
        "place_slots": (plan.place_slots, {}, 4),
        "sum_slots": (kernels.sum_slots, {}, 4),
        "count_call, direct": (tally.count_call, {"SLOTS": DIRECT_SLOTS, "DIRECT": True}, 8),
        "count_call, planned": (tally.count_call, {"SLOTS": 1, "DIRECT": False}, 8),
    }
    numbers = {"slots", "tokens", "chunks", "BM", "stride_slot", "stride_out"}
    pointers = {"row": "*i64", "slot_out": "*bf16", "out": "*bf16"}
    spills = {}
    for (name, (kernel, more, warps)), target in itertools.product(launches.items(), TARGETS):
        fixed = {k: v for k, v in {**sizes, **more}.items() if k in kernel.arg_names}
        types = {
            argument: "constexpr" if argument in fixed
            else "i32" if argument in numbers
            else pointers.get(argument, "*i32")
            for argument in kernel.arg_names
        }  # fmt: skip
        constants = {(at,): fixed[a] for at, a in enumerate(kernel.arg_names) if a in fixed}
        source = ASTSource(kernel, types, constants)
        binary = triton.compile(source, target=TARGETS[target], options={"num_warps": warps})
        amd = target.startswith("gfx")
        read = _read_amd(binary.asm["amdgcn"]) if amd else _read_cubin(binary.asm["cubin"])
        spills[f"{name} on {target}"] = read[1]
    return spills


def _matrix_instruction(ptx: str, architecture: str) -> str:
    for name in (architecture, "sm_80"):
        found = len(re.findall(MATRIX[name], ptx))
        if found:
            return f"{MATRIX[name].replace(chr(92), '').removeprefix('b')} {found}"
    return "none"


def _read_cubin(cubin: bytes) -> tuple[int, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(  # noqa: S603 - Triton's own tool on our own file
            [TOOLS / "cuobjdump", "-res-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    if found is None:
        raise ValueError(f"cuobjdump reports no registers: {usage!r}")
    return int(found[1]), int(found[2]) + int(found[3])


def _read_amd(assembly: str) -> tuple[int, int, str]:
    def number(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", assembly)
        if found is None:
            raise ValueError(f"the assembly reports no {name}")
        return int(found[1])

    matrix = len(re.findall(r"v_mfma", assembly))
    return number("vgpr_count"), number("vgpr_spill_count"), f"v_mfma {matrix}"


def table(rows: list[Compiled]) -> str:
    """The rows as Markdown."""
    head = (
        "| GPU | layer | tokens | kernel | tile | warps/stages | registers | spilled | shared memory "
        "| of | matrix instructions |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    lines = [
        f"| {row.architecture} | {row.layer} | {row.tokens} | `{row.kernel}` | {row.tile} "
        f"| {row.warps}/{row.stages} | {row.registers} | {row.spilled} | {row.shared_bytes:,} "
        f"| {SHARED_MEMORY[row.architecture]:,} | {row.matrix_instruction} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def main() -> None:
    page = Path(sys.argv[1])
    os.environ.setdefault(
        "TRITON_DEFAULT_FP_FUSION", "1"
    )  # the default of the version that is pinned
    rows = [
        row
        for name in TARGETS
        for layer in COMPILED
        if layer in LAYERS or name in HAS_E4M3
        for row in compile_all(name, layer)
    ]
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")


if __name__ == "__main__":
    main()
