"""Encoded prompts as one sparse matrix, with the two products that fitting needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

#: Rows that are gathered at once: their block of a dense operand then stays in the cache.
_BLOCK_ROWS = 64


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Compressed sparse rows: row i holds ``values[start[i]:start[i+1]]`` at ``columns[...]``.

    ``start`` has shape (rows + 1,); ``shape`` is (rows, columns).
    """

    start: Indices
    columns: Indices
    values: Floats
    shape: tuple[int, int]

    def times(self, dense: Floats) -> Floats:
        """Multiply with a matrix of shape (columns, k); the result has shape (rows, k)."""
        product = np.zeros((self.shape[0], dense.shape[1]), np.float32)
        # reduceat would give an empty row its neighbour's first term.
        filled = np.flatnonzero(np.diff(self.start))
        for begin in range(0, filled.size, _BLOCK_ROWS):
            rows = filled[begin : begin + _BLOCK_ROWS]
            low, high = self.start[rows[0]], self.start[rows[-1] + 1]
            terms = dense[self.columns[low:high]] * self.values[low:high, None]
            product[rows] = np.add.reduceat(terms, self.start[rows] - low, axis=0)
        return product

    def transposed(self) -> SparseRows:
        """Return the same matrix stored by its columns."""
        order = np.argsort(self.columns, kind="stable")
        row_of = np.repeat(np.arange(self.shape[0]), np.diff(self.start))
        counts = np.bincount(self.columns, minlength=self.shape[1])
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return SparseRows(start, row_of[order], self.values[order], (self.shape[1], self.shape[0]))

    def take(self, rows: Indices) -> SparseRows:
        """Return the given rows, in that order."""
        lengths = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        offsets = np.arange(start[-1]) - np.repeat(start[:-1], lengths)
        source = np.repeat(self.start[rows], lengths) + offsets
        return SparseRows(
            start, self.columns[source], self.values[source], (len(rows), self.shape[1])
        )

    def first_columns(self, count: int) -> SparseRows:
        """Return the matrix without the columns from ``count`` on."""
        kept = self.columns < count
        start = np.concatenate([[0], np.cumsum(kept)])[self.start]
        return SparseRows(
            start, self.columns[kept], self.values[kept], (self.shape[0], min(count, self.shape[1]))
        )

    def beside(self, dense: Floats) -> SparseRows:
        """Return the matrix with the columns of ``dense``, (rows, k), after its own."""
        rows, extra = dense.shape
        lengths = np.diff(self.start)
        start = self.start + extra * np.arange(rows + 1)
        own = np.arange(len(self.values)) + np.repeat(extra * np.arange(rows), lengths)
        new = (start[1:, None] - extra + np.arange(extra)).ravel()
        columns, values = np.empty(start[-1], np.int64), np.empty(start[-1], np.float32)
        columns[own], values[own] = self.columns, self.values
        columns[new] = np.tile(np.arange(extra) + self.shape[1], rows)
        values[new] = dense.ravel()
        return SparseRows(start, columns, values, (rows, self.shape[1] + extra))

    def scaled(self, scales: Floats) -> SparseRows:
        """Return the matrix with every column multiplied by its scale, (columns,)."""
        return replace(self, values=self.values * scales[self.columns])

    def dense(self) -> Floats:
        """Return the whole matrix."""
        filled = np.zeros(self.shape, np.float32)
        filled[np.repeat(np.arange(self.shape[0]), np.diff(self.start)), self.columns] = self.values
        return filled


def encode_all(encoder: Encoder, texts: Sequence[str]) -> SparseRows:
    """Encode every text into one row, shape (texts, encoder.rows)."""
    encoded = [encoder.encode(text) for text in texts]
    start = np.concatenate([[0], np.cumsum([rows.size for rows, _ in encoded])]).astype(np.int64)
    return SparseRows(
        start,
        np.concatenate([rows for rows, _ in encoded]),
        np.concatenate([values for _, values in encoded]),
        (len(texts), encoder.rows),
    )
