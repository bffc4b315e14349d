"""What a placement costs on a trace: bytes between GPUs and how uneven the work is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from expert_placement.trace import Ints


@dataclass(frozen=True)
class Cost:
    """Cost of a trace under a placement.

    ``dispatch_bytes``: vLLM's way, a token goes from its own GPU to each other GPU that holds one
    of its experts, and the result comes back. ``move_bytes``: MoETuner's way, activations stay
    where an expert left them until the next layer's expert needs them. ``imbalance``: the busiest
    GPU's slots over the mean, averaged over layers; 1 is even.
    """

    dispatch_bytes: int
    move_bytes: int
    imbalance: float


def simulate(ids: Ints, gpu_of: Ints, gpus: int, hidden: int, bytes_per_value: int = 2) -> Cost:
    """Cost of ``ids`` [tokens, L, k] with experts at ``gpu_of`` [L, E]; token t is on GPU t mod G."""
    tokens, layers, _ = ids.shape
    home = np.arange(tokens) % gpus
    token_bytes = hidden * bytes_per_value
    sent, moved, imbalance = 0, 0, 0.0
    before: Ints | None = None
    for layer in range(layers):
        alive = ids[:, layer] >= 0
        at = np.where(alive, gpu_of[layer][np.maximum(ids[:, layer], 0)], -1)
        visits = np.stack([(at == gpu).any(1) for gpu in range(gpus)], axis=1)
        sent += int(visits.sum() - visits[np.arange(tokens), home].sum())
        if before is not None:
            pairs = (before[:, :, None] >= 0) & (at[:, None, :] >= 0)
            moved += int((pairs & (before[:, :, None] != at[:, None, :])).sum())
        carried = np.bincount(at[alive], minlength=gpus)
        imbalance += carried.max() / max(carried.mean(), 1e-9)
        before = at
    return Cost(2 * sent * token_bytes, moved * token_bytes, float(imbalance / layers))
