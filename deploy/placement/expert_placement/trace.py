"""What a model's routers chose: the raw trace, and the two tables that placement needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Routing:
    """Counts of a trace.

    ``load`` [L, E]: slots of each expert. ``moves`` [L − 1, E, E]: how often a token that chose
    expert i in layer l chose j in layer l + 1.
    """

    load: Ints
    moves: Ints

    @property
    def layers(self) -> int:
        return self.load.shape[0]

    @property
    def experts(self) -> int:
        return self.load.shape[1]


def read_trace(path: Path) -> tuple[Ints, int]:
    """(ids [tokens, L, k], experts) of an .npz with ``ids`` and ``experts``; −1 is a dropped slot.

    Raises ValueError naming the file where it holds something else.
    """
    with np.load(path) as stored:
        if set(stored.files) != {"ids", "experts"}:
            raise ValueError(f"{path} holds {sorted(stored.files)}, a trace has ids and experts")
        ids, experts = stored["ids"].astype(np.int64), int(stored["experts"])
    if ids.ndim != 3 or ids.size == 0 or ids.max() >= experts:
        raise ValueError(f"{path}: ids {ids.shape} are not [tokens, layers, k] below {experts}")
    return ids, experts


def routing_of(ids: Ints, experts: int) -> Routing:
    """Count loads and layer-to-layer moves in ``ids`` [tokens, L, k]."""
    _, layers, _ = ids.shape
    load = np.zeros((layers, experts), np.int64)
    moves = np.zeros((layers - 1, experts, experts), np.int64)
    for layer in range(layers):
        chosen = ids[:, layer]
        load[layer] = np.bincount(chosen[chosen >= 0], minlength=experts)
        if layer + 1 < layers:
            pairs = chosen[:, :, None] * experts + ids[:, layer + 1][:, None, :]
            alive = (chosen[:, :, None] >= 0) & (ids[:, layer + 1][:, None, :] >= 0)
            counted = np.bincount(pairs[alive], minlength=experts * experts)
            moves[layer] = counted.reshape(experts, experts)
    return Routing(load, moves)
