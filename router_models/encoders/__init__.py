"""From text to the rows of a weight table: every encoder keeps the promise of ``Encoder``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Weights = NDArray[np.float32]


class Encoder(Protocol):
    """A text as a sparse vector of bounded length. Thread-safe, O(1) in the text's length.

    The first ``word_rows`` rows stand for words, and their part of the vector is at most of unit
    length. A dense embedding fits as well: its rows are then always ``0 .. rows - 1``.
    """

    @property
    def kind(self) -> str:
        """The name under which an artifact stores it."""

    @property
    def rows(self) -> int:
        """Dimension of the vector, and height of the table that it gathers from."""

    @property
    def word_rows(self) -> int:
        """How many of the rows tell what a text is about; they come first."""

    def encode(self, text: str) -> tuple[Rows, Weights]:
        """Return the unique rows that the text touches, ascending, and their weights, (k,) each."""

    def encode_tails(self, text: str, starts: Sequence[int]) -> list[tuple[Rows, Weights]]:
        """Encode ``text[start:]`` of a clipped text for every start, see ``encoders.tails``."""

    def settings(self) -> dict[str, float]:
        """The numbers that an artifact's manifest keeps."""

    def arrays(self) -> Mapping[str, NDArray[np.generic]]:
        """The arrays that an artifact keeps."""
