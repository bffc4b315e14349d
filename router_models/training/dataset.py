"""Read measured outcomes, one row per prompt and model, and refuse what cannot be learnt from.

Rows are counted from 0 in every message. Nothing is repaired silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from router_models.prompt_text import ask_of_cell
from router_models.types import DataError

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

TRAIN = "train"
MAX_PROMPT_BYTES = 1_000_000

_TEXT_COLUMNS = ("prompt_id", "source", "task", "prompt", "model", "split")
#: Columns whose cells name something; a prompt may be blank.
_NAMES = ("prompt_id", "task", "model", "split")
_NUMBER_COLUMNS = ("score", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class RoutingData:
    """Outcomes of every model on every prompt; a model that was not measured has NaN there.

    ``prompts`` are the human asks. ``scores``, ``losses`` and ``completion_tokens`` have shape
    (prompts, models), ``prompt_tokens`` (prompts,). ``losses`` is None where the file has no
    ``loss`` column; it is in nats per token. ``withheld`` counts training prompts that were left
    out because another task's evaluation split holds the same prompt. ``sha256`` is the file's.
    """

    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    models: tuple[str, ...]
    scores: Matrix
    losses: Matrix | None
    prompt_tokens: NDArray[np.float64]
    completion_tokens: Matrix
    sha256: str
    withheld: int = 0

    def training(self) -> RoutingData:
        """Return the prompts of the split ``train``. Raises DataError when there are none."""
        return self._named(TRAIN)

    def evaluation(self, split: str | None = None) -> RoutingData:
        """Return the prompts of one split, or without a name of every split but ``train``.

        Raises DataError when there are none.
        """
        if split is not None:
            return self._named(split)
        rows = np.array([s != TRAIN for s in self.splits])
        if not rows.any():
            raise DataError("column 'split': every row is 'train'; name the split to evaluate on")
        return self.take(np.flatnonzero(rows))

    def take(self, rows: Indices) -> RoutingData:
        """Return the prompts at ``rows``, in that order; every model stays."""
        return replace(
            self,
            prompt_ids=tuple(self.prompt_ids[i] for i in rows),
            prompts=tuple(self.prompts[i] for i in rows),
            tasks=tuple(self.tasks[i] for i in rows),
            splits=tuple(self.splits[i] for i in rows),
            scores=self.scores[rows],
            losses=None if self.losses is None else self.losses[rows],
            prompt_tokens=self.prompt_tokens[rows],
            completion_tokens=self.completion_tokens[rows],
        )

    def _named(self, split: str) -> RoutingData:
        rows = np.flatnonzero(np.array([s == split for s in self.splits]))
        if not rows.size:
            present = sorted(set(self.splits))
            alike = get_close_matches(split.lower(), [s.lower() for s in present], 1)
            meant = [s for s in present if alike and s.lower() == alike[0]]
            hint = f"; is {meant[0]!r} meant?" if meant else ""
            there = ", ".join(repr(s) for s in present[:10])
            raise DataError(f"column 'split': no row is {split!r}; the file has {there}{hint}")
        return self.take(rows)


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Prompts to predict for: unique ids with their asks, in the order of the file."""

    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]


def read_routing_data(path: Path) -> RoutingData:
    """Read a long-format parquet file of measured outcomes.

    One listing is a (prompt_id, task) pair: a prompt may be listed under two tasks. If one of the
    two is to be trained on and the other to be evaluated on, the training one is withheld.

    Raises DataError naming the column or the row, and the remedy.
    """
    table = _read(path, (*_TEXT_COLUMNS, *_NUMBER_COLUMNS))
    columns = {name: _texts(table, name) for name in _TEXT_COLUMNS}
    numbers = {name: _numbers(table, name) for name in _NUMBER_COLUMNS}
    _refuse_rows(
        ~((numbers["score"] >= 0) & (numbers["score"] <= 1)),
        "column 'score' must lie in [0, 1] and not be empty; rescale it or drop the row",
    )
    for name in ("prompt_tokens", "completion_tokens"):
        _refuse_rows(
            (numbers[name] < 0) | np.isinf(numbers[name]),
            f"column {name!r} must be finite and not negative; empty it where it is not known",
        )
    losses = _read_losses(table)
    models = tuple(sorted(set(columns["model"])))
    if len(models) < 2:
        raise DataError(f"column 'model' holds only {models[0]!r}; routing needs two or more")
    firsts, listing_of = _listings(columns)
    model_of = np.searchsorted(np.array(models), np.array(columns["model"]))
    _refuse_repeats(listing_of * len(models) + model_of)

    def spread(values: NDArray[np.float64]) -> Matrix:
        matrix = np.full((len(firsts), len(models)), np.nan)
        matrix[listing_of, model_of] = values
        return matrix

    asks = {cell: ask_of_cell(cell) for cell in dict.fromkeys(columns["prompt"])}
    data = RoutingData(
        prompt_ids=tuple(columns["prompt_id"][i] for i in firsts),
        prompts=tuple(asks[columns["prompt"][i]] for i in firsts),
        tasks=tuple(columns["task"][i] for i in firsts),
        splits=tuple(columns["split"][i] for i in firsts),
        models=models,
        scores=spread(numbers["score"]),
        losses=None if losses is None else spread(losses),
        prompt_tokens=numbers["prompt_tokens"][firsts],
        completion_tokens=spread(numbers["completion_tokens"]),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    return _withhold_leaks(data)


def read_prompts(path: Path) -> PromptTable:
    """Read the prompts of a parquet file; only ``prompt_id`` and ``prompt`` are needed.

    Raises DataError naming the column or the row, and the remedy.
    """
    table = _read(path, ("prompt_id", "prompt"))
    columns = {name: _texts(table, name) for name in ("prompt_id", "prompt")}
    firsts = _agreeing_firsts(columns["prompt_id"], columns, ("prompt",))
    return PromptTable(
        tuple(columns["prompt_id"][i] for i in firsts),
        tuple(ask_of_cell(columns["prompt"][i]) for i in firsts),
    )


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """One model's outcomes by prompt_id: (score or loss, tokens of the answer or NaN)."""

    model: str
    by_prompt: Mapping[str, tuple[float, float]]


def read_measured_model(path: Path, model: str, *, losses: bool) -> MeasuredModel:
    """Read the rows of one model from a file of measured outcomes.

    Needed are ``prompt_id``, ``model`` and ``score``, or ``loss`` with ``losses``;
    ``completion_tokens`` is read where it is there. Raises DataError naming the column or the row.
    """
    outcome = "loss" if losses else "score"
    table = _read(path, ("prompt_id", "model", outcome))
    ids, models = _texts(table, "prompt_id"), _texts(table, "model")
    values = _numbers(table, outcome)
    has_lengths = "completion_tokens" in table.column_names
    lengths = _numbers(table, "completion_tokens") if has_lengths else np.full(len(ids), np.nan)
    highest = np.inf if losses else 1.0
    own = np.array([name == model for name in models])
    _refuse_rows(
        own & ~((values >= 0) & (values <= highest) & np.isfinite(values)),
        f"column {outcome!r} must lie in [0, {'∞)' if losses else '1]'} and not be empty",
    )
    rows = np.flatnonzero(own)
    if not rows.size:
        there = ", ".join(repr(name) for name in sorted(set(models))[:5])
        raise DataError(f"column 'model': no row is {model!r}; the file has {there}")
    found = {ids[row]: (float(values[row]), float(lengths[row])) for row in rows}
    if len(found) < rows.size:
        raise DataError(f"column 'prompt_id': {model!r} has two rows for one prompt; drop one")
    return MeasuredModel(model, found)


def _read(path: Path, required: Sequence[str]) -> pa.Table:
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name one parquet file")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from error
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; add it")
    if not table.num_rows:
        raise DataError(f"{path}: there are no rows")
    return table


def _texts(table: pa.Table, name: str) -> list[str]:
    try:
        values: list[str | None] = table[name].cast(pa.large_string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"column {name!r} must hold text, not {table[name].type}") from error
    for row, value in enumerate(values):
        if value is None:
            raise DataError(f"row {row}: column {name!r} is empty; fill it or drop the row")
        if name in _NAMES and not value.strip():
            raise DataError(f"row {row}: column {name!r} is blank; fill it or drop the row")
        if name == "prompt" and len(value.encode("utf-8", "replace")) > MAX_PROMPT_BYTES:
            raise DataError(f"row {row}: column 'prompt' is longer than 1 MB; shorten it")
    return [value for value in values if value is not None]


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Read a column of numbers, shape (rows,); empty cells become NaN."""
    try:
        cells = table[name].cast(pa.float64())
    except pa.ArrowException as error:
        raise DataError(f"column {name!r} must hold numbers, not {table[name].type}") from error
    return np.asarray(cells.to_numpy(), np.float64)


def _read_losses(table: pa.Table) -> NDArray[np.float64] | None:
    if "loss" not in table.column_names:
        return None
    losses = _numbers(table, "loss")
    if np.isnan(losses).all():
        return None
    _refuse_rows(
        ~(np.isfinite(losses) & (losses >= 0)),
        "column 'loss' must be finite, not negative and not empty; fix it or drop the column",
    )
    return losses


def _listings(columns: Mapping[str, Sequence[str]]) -> tuple[list[int], Indices]:
    """Return the first row of every (prompt_id, task), and the listing of every row, (rows,)."""
    _agreeing_firsts(columns["prompt_id"], columns, ("prompt",))
    keys = list(zip(columns["prompt_id"], columns["task"], strict=True))
    firsts = _agreeing_firsts(keys, columns, ("split",))
    position = {keys[row]: i for i, row in enumerate(firsts)}
    return firsts, np.array([position[key] for key in keys], np.int64)


def _agreeing_firsts(
    keys: Sequence[object], columns: Mapping[str, Sequence[str]], must_agree: Sequence[str]
) -> list[int]:
    """Return the first row of every key. Raises DataError where a later row contradicts it."""
    first_of: dict[object, int] = {}
    for row, key in enumerate(keys):
        first = first_of.setdefault(key, row)
        for name in must_agree:
            if first != row and columns[name][first] != columns[name][row]:
                raise DataError(
                    f"row {row}: prompt_id {columns['prompt_id'][row][:80]!r} has another {name!r} "
                    f"than in row {first}; give every prompt its own id and one {name}"
                )
    return list(first_of.values())


def _refuse_rows(wrong: NDArray[np.bool_], reason: str) -> None:
    if wrong.any():
        raise DataError(f"row {int(np.argmax(wrong))}: {reason}")


def _refuse_repeats(pairs: Indices) -> None:
    _, firsts, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    repeated = firsts[inverse] != np.arange(pairs.size)
    if repeated.any():
        row = int(np.argmax(repeated))
        raise DataError(
            f"row {row}: its prompt_id and model stand already in row {int(firsts[inverse][row])}; "
            "drop one of them"
        )


def _withhold_leaks(data: RoutingData) -> RoutingData:
    evaluated = {p for p, s in zip(data.prompt_ids, data.splits, strict=True) if s != TRAIN}
    kept = [
        i
        for i, (prompt_id, split) in enumerate(zip(data.prompt_ids, data.splits, strict=True))
        if split != TRAIN or prompt_id not in evaluated
    ]
    leaks = len(data.prompt_ids) - len(kept)
    return replace(data.take(np.array(kept, np.int64)), withheld=leaks) if leaks else data
