"""The prompts to ask: a table as Parquet, JSON lines or CSV, checked row by row."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from router_models.training.dataset import MAX_PROMPT_BYTES, TRAIN
from router_models.types import DataError

#: The split of prompts that are not trained on, where the file names none.
HELD_OUT = "val"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; ``prompt`` is a text, or chat messages as JSON. ``references`` are right answers."""

    prompt_id: str
    prompt: str
    task: str
    source: str
    split: str
    references: tuple[str, ...] = ()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What a chat model is asked."""
        text = self.prompt.strip()
        if text.startswith("[") and text.endswith("]"):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                found = None
            if found and all(isinstance(m, dict) and "role" in m for m in found):
                return list(found)
        return [{"role": "user", "content": self.prompt}]


def read_collection(path: Path, held_out: float = 0.2) -> list[Prompt]:
    """Read ``prompt_id, prompt`` and, where they are there, ``task, source, reference, split``.

    Where no split is given, a share of ``held_out`` is not for training, by a hash of the id. A
    reference may be a JSON list of texts. Raises DataError naming file, row and remedy.
    """
    rows = _read_rows(path)
    if not rows:
        raise DataError(f"{path}: there are no rows")
    prompts = [_prompt(path, number, row, held_out) for number, row in enumerate(rows)]
    first: dict[str, int] = {}
    for number, prompt in enumerate(prompts):
        if prompt.prompt_id in first:
            raise DataError(
                f"{path}, row {number}: prompt_id {prompt.prompt_id[:80]!r} stands already in row "
                f"{first[prompt.prompt_id]}; give every prompt its own"
            )
        first[prompt.prompt_id] = number
    return prompts


def digest(prompts: Sequence[Prompt]) -> str:
    """What tells one set of prompts from another."""
    sums = hashlib.sha256()
    for prompt in prompts:
        sums.update(f"{prompt.prompt_id}\0{prompt.prompt}\0".encode("utf-8", "replace"))
    return sums.hexdigest()


def _read_rows(path: Path) -> list[Mapping[str, Any]]:
    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            return list(pq.read_table(path).to_pylist())
        with path.open(encoding="utf-8", newline="") as file:
            if kind == ".csv":
                return list(csv.DictReader(file))
            if kind in {".jsonl", ".ndjson"}:
                return [
                    _json_row(path, number, line)
                    for number, line in enumerate(file)
                    if line.strip()
                ]
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    raise DataError(
        f"{path}: prompts are .parquet, .jsonl or .csv, not {kind or 'a file without a suffix'}"
    )


def _json_row(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number + 1}: is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number + 1}: must be an object with prompt_id and prompt")
    return row


def _prompt(path: Path, number: int, row: Mapping[str, Any], held_out: float) -> Prompt:
    prompt_id = _text(path, number, row, "prompt_id")
    text = row.get("prompt")
    prompt = json.dumps(text) if isinstance(text, list) else _text(path, number, row, "prompt")
    if len(prompt.encode("utf-8", "replace")) > MAX_PROMPT_BYTES:
        raise DataError(f"{path}, row {number}: column 'prompt' is longer than 1 MB; shorten it")
    return Prompt(
        prompt_id=prompt_id,
        prompt=prompt,
        task=str(row.get("task") or "all"),
        source=str(row.get("source") or path.stem),
        split=str(row.get("split") or _split(prompt_id, held_out)),
        references=_references(row.get("reference")),
    )


def _text(path: Path, number: int, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None or not str(value).strip():
        raise DataError(f"{path}, row {number}: column {column!r} is empty or missing; fill it")
    return str(value)


def _references(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, list):
        return tuple(map(str, value))
    text = str(value)
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return (text,)
        if found and isinstance(found, list) and all(isinstance(item, str) for item in found):
            return tuple(found)
    return (text,)


def _split(prompt_id: str, held_out: float) -> str:
    hashed = hashlib.blake2b(prompt_id.encode("utf-8", "replace"), digest_size=8).digest()
    return HELD_OUT if int.from_bytes(hashed) < held_out * 2.0**64 else TRAIN
