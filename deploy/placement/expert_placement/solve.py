"""Experts to GPUs: first balanced, then so that tokens rarely change GPU between layers.

The whole problem is quadratic. With its neighbours fixed, one layer is linear: ``kept[j, g]`` is
the traffic that stays on GPU g if expert j is there. So layers are solved in sweeps, by swaps first
and then by an integer program (HiGHS), under the loads' cap, until no layer improves or time is up.
Method: MoETuner, arXiv 2502.06643.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, kron

from expert_placement.baselines import packed
from expert_placement.trace import Ints, Routing


@dataclass(frozen=True)
class Placement:
    """``gpu_of`` [L, E], every GPU with E/G experts of each layer.

    ``crossing`` is the number of moves between GPUs and ``bound`` a number that no placement can go
    below, so the distance to the optimum is at most ``gap``. ``integer_layers`` counts the layers
    that HiGHS improved.
    """

    gpu_of: Ints
    gpus: int
    crossing: int
    bound: int
    integer_layers: int
    seconds: float

    @property
    def gap(self) -> float:
        return (self.crossing - self.bound) / max(self.crossing, 1)

    def physical_to_logical(self) -> Ints:
        """[L, E]: the experts of GPU 0, then of GPU 1 …, as vLLM's EPLB policies return them."""
        return np.argsort(self.gpu_of, axis=1, kind="stable")


def place(
    routing: Routing,
    gpus: int,
    *,
    deadline_s: float = 60.0,
    slack: float = 0.05,
    integer: bool = True,
) -> Placement:
    """The best placement found before ``deadline_s``.

    No GPU carries more than (1 + ``slack``) of its layer's mean load, or than the packing alone
    needs. Raises ValueError where the experts cannot be shared out evenly.
    """
    if routing.experts % gpus:
        raise ValueError(f"{routing.experts} experts cannot be shared out evenly on {gpus} GPUs")
    started = time.monotonic()
    gpu_of = packed(routing.load, gpus)
    caps = _caps(routing.load, gpu_of, gpus, slack)
    _sweep_swaps(routing, gpu_of, gpus, caps)
    improved = (
        _sweep_integer(routing, gpu_of, gpus, caps, started + 0.9 * deadline_s)
        if integer
        else set()
    )
    return Placement(
        gpu_of,
        gpus,
        crossing(routing, gpu_of),
        lower_bound(routing, gpus),
        len(improved),
        time.monotonic() - started,
    )


def crossing(routing: Routing, gpu_of: Ints) -> int:
    """Moves between experts on different GPUs."""
    apart = gpu_of[:-1, :, None] != gpu_of[1:, None, :]
    return int(routing.moves[apart].sum())


def lower_bound(routing: Routing, gpus: int) -> int:
    """Moves that must cross: an expert shares its GPU with at most E/G of the next layer's."""
    room = routing.experts // gpus
    total = 0
    for moves in routing.moves:
        by_column = np.sort(moves, axis=0)[-room:].sum()
        by_row = np.sort(moves, axis=1)[:, -room:].sum()
        total += int(moves.sum() - min(by_column, by_row))
    return total


def _caps(load: Ints, gpu_of: Ints, gpus: int, slack: float) -> NDArray[np.float64]:
    carried = np.stack([(load * (gpu_of == gpu)).sum(1) for gpu in range(gpus)])
    return np.maximum(load.sum(1) / gpus * (1 + slack), carried.max(0))


def _kept(routing: Routing, gpu_of: Ints, gpus: int, layer: int) -> Ints:
    """[E, G]: traffic with the neighbouring layers that stays on g if the layer's expert j is on g."""
    kept = np.zeros((routing.experts, gpus), np.int64)
    if layer > 0:
        kept += routing.moves[layer - 1].T @ np.eye(gpus, dtype=np.int64)[gpu_of[layer - 1]]
    if layer + 1 < routing.layers:
        kept += routing.moves[layer] @ np.eye(gpus, dtype=np.int64)[gpu_of[layer + 1]]
    return kept


def _sweep_swaps(
    routing: Routing, gpu_of: Ints, gpus: int, caps: NDArray[np.float64], sweeps: int = 8
) -> None:
    for _ in range(sweeps):
        before = crossing(routing, gpu_of)
        for layer in range(routing.layers):
            _swap(
                _kept(routing, gpu_of, gpus, layer), routing.load[layer], gpu_of[layer], caps[layer]
            )
        if crossing(routing, gpu_of) == before:
            return


def _swap(kept: Ints, load: Ints, gpu_of: Ints, cap: float) -> None:
    """Swap the pair of experts that gains most, within the cap, until none gains; in place."""
    every = np.arange(len(load))
    carried = np.bincount(gpu_of, weights=load, minlength=kept.shape[1])
    while True:
        now = kept[every, gpu_of]
        there = kept[:, gpu_of]  # [a, b]: what expert a would keep where b is
        gain = there + there.T - now[:, None] - now[None, :]
        grown = carried[gpu_of][None, :] - load[None, :] + load[:, None]  # GPU of b with a for b
        allowed = (grown <= cap) & (cap >= grown.T) & (gpu_of[:, None] != gpu_of[None, :])
        gain = np.where(allowed, gain, 0)
        a, b = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[a, b] <= 0:
            return
        carried[gpu_of[b]] = grown[a, b]
        carried[gpu_of[a]] = grown[b, a]
        gpu_of[a], gpu_of[b] = gpu_of[b], gpu_of[a]


def _sweep_integer(
    routing: Routing, gpu_of: Ints, gpus: int, caps: NDArray[np.float64], until: float
) -> set[int]:
    """Layers that the integer program improved; ``gpu_of`` in place."""
    improved: set[int] = set()
    changed = True
    while changed:
        changed = False
        for layer in range(routing.layers):
            left = until - time.monotonic()
            if left <= 0:
                return improved
            kept = _kept(routing, gpu_of, gpus, layer)
            found = _assign(kept, routing.load[layer], caps[layer], min(left, 2.0))
            every = np.arange(routing.experts)
            if found is not None and kept[every, found].sum() > kept[every, gpu_of[layer]].sum():
                gpu_of[layer] = found
                improved.add(layer)
                changed = True
    return improved


def _assign(kept: Ints, load: Ints, cap: float, limit_s: float) -> Ints | None:
    """Maximise Σ kept[j, g]·x[j, g]: one GPU an expert, E/G experts and at most ``cap`` load a GPU."""
    experts, gpus = kept.shape
    one_gpu = kron(csr_array(np.eye(experts)), np.ones((1, gpus)), format="csr")
    even = kron(np.ones((1, experts)), csr_array(np.eye(gpus)), format="csr")
    carried = kron(load[None, :].astype(float), csr_array(np.eye(gpus)), format="csr")
    found = milp(
        -kept.reshape(-1).astype(float),
        integrality=np.ones(experts * gpus),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_gpu, 1, 1),
            LinearConstraint(even, experts // gpus, experts // gpus),
            LinearConstraint(carried, -np.inf, cap),
        ],
        options={"time_limit": limit_s, "mip_rel_gap": 1e-4},
    )
    if found.x is None:
        return None
    return np.round(found.x).reshape(experts, gpus).argmax(1)
