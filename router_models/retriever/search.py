"""The pilots nearest to a prompt: exactly, or through an index where there are very many.

Exact search multiplies with every centroid, in a time that grows with their number. From
``INDEX_FROM`` pilots on it is slower than a walk through an HNSW graph (Malkov and Yashunin, arXiv
1603.09320), for which usearch is taken where it is installed (the extra ``pilots``);
``tests/benchmarks/pilots.py`` measures where they cross.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

#: Pilots that an outcome is made of; those beyond hardly weigh.
NEAREST = 64
INDEX_FROM = 20_000


class Search(Protocol):
    """Finds, for a vector of length 1, the pilots most similar to it and their cosines."""

    def nearest(self, vector: Floats) -> tuple[Indices, Floats]: ...


@dataclass(frozen=True, slots=True)
class ExactSearch:
    centroids: Floats

    def nearest(self, vector: Floats) -> tuple[Indices, Floats]:
        similar = self.centroids @ vector
        if len(similar) <= NEAREST:
            return np.arange(len(similar)), similar
        found = np.argpartition(similar, -NEAREST)[-NEAREST:]
        return found, similar[found]


@dataclass(frozen=True, slots=True)
class GraphSearch:
    """Approximate: usearch's HNSW over the same centroids. Raises ImportError without usearch."""

    centroids: Floats
    _index: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from usearch.index import Index

        index = Index(ndim=self.centroids.shape[1], metric="ip", dtype="f16")
        index.add(np.arange(len(self.centroids)), self.centroids)
        object.__setattr__(self, "_index", index)

    def nearest(self, vector: Floats) -> tuple[Indices, Floats]:
        found = self._index.search(vector, NEAREST)
        return np.asarray(found.keys, np.int64), np.asarray(1.0 - found.distances, np.float32)


def open_search(centroids: Floats) -> Search:
    """Search exactly below ``INDEX_FROM`` pilots, else through the index where there is one."""
    if len(centroids) < INDEX_FROM:
        return ExactSearch(centroids)
    try:
        return GraphSearch(centroids)
    except ImportError:
        return ExactSearch(centroids)
