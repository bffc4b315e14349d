"""Hashed words and pairs of words, weighted by tf-idf: reads a prompt in tens of microseconds.

The vector is normalised over *all* tokens of the text, also over those that no training prompt
held. A text of which little is known therefore has a short vector, and predictions made from it
stay near the mean in place of being confident on thin evidence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Rows, Weights
from router_models.encoders.tails import pieces_of
from router_models.prompt_text import clip

#: Tokens of UTF-8: words of scripts that separate them, short runs of digits, single characters of
#: scripts that do not, line breaks, and every symbol by itself, for they carry code and maths.
_TOKEN = re.compile(
    rb"(?:[a-z]|[\xc3-\xdf][\x80-\xbf])+|[0-9]{1,3}|[\xe0-\xf4][\x80-\xbf]{2,3}|\n|[^\sa-z0-9]"
)
_UNKNOWN = np.int32(-1)

Hashes = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class LexicalEncoder:
    """Sublinear tf x idf of word unigrams and bigrams, hashed into ``buckets``.

    ``known`` holds the buckets that own a row, ascending, shape (rows,); ``idf`` their weights,
    shape (rows,); ``unknown_idf`` weighs every token without a row. ``buckets`` is a power of two.
    Raises ValueError when the shapes disagree.
    """

    buckets: int
    known: Hashes
    idf: Weights
    unknown_idf: float
    _row_of: NDArray[np.int32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.buckets < 2 or self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets must be a power of two, not {self.buckets}")
        if self.known.shape != self.idf.shape or self.known.ndim != 1:
            raise ValueError(f"{self.known.shape} buckets but {self.idf.shape} idf weights")
        if self.known.size and int(self.known.max()) >= self.buckets:
            raise ValueError(f"a bucket is not below {self.buckets}")
        row_of = np.full(self.buckets, _UNKNOWN)
        row_of[self.known] = np.arange(self.known.size, dtype=np.int32)
        object.__setattr__(self, "_row_of", row_of)

    @property
    def kind(self) -> str:
        return "lexical"

    @property
    def rows(self) -> int:
        return int(self.known.size)

    @property
    def word_rows(self) -> int:
        return self.rows

    def encode(self, text: str) -> tuple[Rows, Weights]:
        return self._weigh(hash_text(text, self.buckets))

    def encode_tails(self, text: str, starts: Sequence[int]) -> list[tuple[Rows, Weights]]:
        return [self._weigh(hashes) for hashes in hash_tails(text, starts, self.buckets)]

    def _weigh(self, hashes: Hashes) -> tuple[Rows, Weights]:
        hits = self._row_of[hashes]
        known = hits[hits >= 0]
        rows, counts = _counted(known)
        weights = ((1.0 + np.log(counts)) * self.idf[rows]).astype(np.float32)
        unknown = hits.size - known.size
        square = float(weights @ weights) + unknown * self.unknown_idf**2
        if square > 0:
            weights /= np.float32(square**0.5)
        return rows.astype(np.int64), weights

    def settings(self) -> dict[str, float]:
        return {"buckets": self.buckets, "unknown_idf": self.unknown_idf}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"known": self.known, "idf": self.idf}


def hash_text(text: str, buckets: int) -> Hashes:
    """Hash every word and pair of neighbours of a clipped text, shape (hashes,), with repeats."""
    return hash_tails(clip(text), (0,), buckets)[0]


def hash_tails(text: str, starts: Sequence[int], buckets: int) -> list[Hashes]:
    """Hash ``text[start:]`` for every start of ``pieces_of``, reading the text once."""
    pieces = [_tokens(piece) for piece in pieces_of(text, starts)]
    tokens = list(chain.from_iterable(pieces))
    words: Hashes = np.fromiter(map(crc32, tokens), np.uint32, len(tokens))
    # Two odd multipliers, so that "a b" and "b a" differ.
    pairs: Hashes = (words[:-1] * np.uint32(0x9E3779B1)) ^ (words[1:] * np.uint32(0x85EBCA77))
    hashes: Hashes = np.concatenate([words, pairs])
    # The upper half is mixed in: a multiplication leaves the low bits of a pair weak.
    mixed: Hashes = (hashes ^ (hashes >> np.uint32(15))) & np.uint32(buckets - 1)
    firsts = accumulate(map(len, pieces[:-1]), initial=0)
    of_words, of_pairs = mixed[: words.size], mixed[words.size :]
    return [np.concatenate([of_words[first:], of_pairs[first:]]) for first in firsts]


def _counted(rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the distinct rows, ascending, and how often each occurs: a leaner ``numpy.unique``."""
    rows = np.sort(rows)
    begins = np.empty(rows.size + 1, np.bool_)
    begins[0] = begins[-1] = True
    np.not_equal(rows[1:], rows[:-1], out=begins[1:-1])
    edges = np.flatnonzero(begins) if rows.size else np.zeros(1, np.int64)
    return rows[edges[:-1]], edges[1:] - edges[:-1]


def _tokens(text: str) -> list[bytes]:
    return _TOKEN.findall(text.lower().encode("utf-8", "surrogatepass"))


def fit_lexical(
    texts: Sequence[str], *, max_rows: int, use_idf: bool, buckets: int = 2**18
) -> LexicalEncoder:
    """Learn which tokens own a row: the ``max_rows`` most frequent of those in two texts or more.

    idf is smoothed, ``ln((1 + n) / (1 + df)) + 1``; without ``use_idf`` every weight is 1.
    """
    document_counts = np.zeros(buckets, np.int64)
    for text in texts:
        document_counts[np.unique(hash_text(text, buckets))] += 1
    known = np.flatnonzero(document_counts >= 2)
    if known.size > max_rows:
        # Stable, so that of equally frequent buckets the lower ones stay on every machine.
        order = np.argsort(-document_counts[known], kind="stable")
        known = np.sort(known[order[:max_rows]])
    idf = np.ones(known.size, np.float32)
    unknown_idf = 1.0
    if use_idf:
        idf = (np.log((1 + len(texts)) / (1 + document_counts[known])) + 1).astype(np.float32)
        unknown_idf = float(np.log((1 + len(texts)) / 2) + 1)
    return LexicalEncoder(buckets, known.astype(np.uint32), idf, unknown_idf)
