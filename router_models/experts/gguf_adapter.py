"""LoRA adapters as GGUF files, the form llama.cpp applies per request.

llama.cpp stores the query and key rows of Llama models in its own rotary order: the two halves of
every head interleaved. Rows of a query adapter's ``lora_b`` move the same way; values do not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

_GGUF_NAME = {"q_proj": "attn_q", "v_proj": "attn_v"}
_MODULE_OF = {short: module for module, short in _GGUF_NAME.items()}
_ROTARY = "q_proj"


@dataclass(frozen=True, slots=True)
class LoraPair:
    """One adapted projection: its update is ``alpha / rank * b @ a``.

    ``a`` has shape (rank, inputs), ``b`` has shape (outputs, rank), rows in Hugging Face order.
    """

    a: Matrix
    b: Matrix


@dataclass(frozen=True, slots=True)
class Adapter:
    """``pairs[layer, module]`` for module ``q_proj`` or ``v_proj``."""

    alpha: float
    pairs: Mapping[tuple[int, str], LoraPair]

    @property
    def rank(self) -> int:
        return int(next(iter(self.pairs.values())).a.shape[0])


def to_llama_cpp_rows(rows: Matrix, heads: int) -> Matrix:
    """Reorder (outputs, n) rows from half-split to interleaved rotary pairs within every head."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def from_llama_cpp_rows(rows: Matrix, heads: int) -> Matrix:
    """Undo to_llama_cpp_rows."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def write_adapter(path: Path, adapter: Adapter, *, heads: int, name: str) -> None:
    """Write a llama.cpp LoRA adapter in float16; the file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(str(partial), "llama")
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", adapter.alpha)
    for (layer, module), pair in sorted(adapter.pairs.items()):
        b = to_llama_cpp_rows(pair.b, heads) if module == _ROTARY else pair.b
        stem = f"blk.{layer}.{_GGUF_NAME[module]}.weight"
        writer.add_tensor(f"{stem}.lora_a", pair.a.astype(np.float16))
        writer.add_tensor(f"{stem}.lora_b", b.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, path)


def read_adapter(path: Path, *, heads: int) -> Adapter:
    """Read an adapter written by write_adapter.

    Raises ValueError when the file is not a LoRA adapter of query and value projections.
    """
    reader = gguf.GGUFReader(path)
    alpha = reader.get_field("adapter.lora.alpha")
    if alpha is None:
        raise ValueError(f"{path} is not a LoRA adapter: it has no adapter.lora.alpha")
    halves: dict[tuple[int, str], dict[str, Matrix]] = {}
    for tensor in reader.tensors:
        _, layer, short, _, half = tensor.name.split(".")
        if short not in _MODULE_OF:
            raise ValueError(f"{path}: tensor {tensor.name} is no query or value projection")
        module = _MODULE_OF[short]
        rows = np.asarray(tensor.data, dtype=np.float32)
        if half == "lora_b" and module == _ROTARY:
            rows = from_llama_cpp_rows(rows, heads)
        halves.setdefault((int(layer), module), {})[half] = rows
    pairs = {key: LoraPair(half["lora_a"], half["lora_b"]) for key, half in halves.items()}
    return Adapter(float(alpha.contents()), pairs)
