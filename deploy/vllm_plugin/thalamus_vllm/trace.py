"""Records each token's experts for ``deploy/placement``. Waits for the device: eager mode only."""

from __future__ import annotations

import atexit
from pathlib import Path

import numpy as np
import torch

SAVE_EVERY = 4096  # tokens


class Trace:
    """Choices of one process, saved as ``ids`` [tokens, layers, k] and ``experts``."""

    def __init__(self, path: Path, experts: int) -> None:
        self._path = path
        self._experts = experts
        self._layers: list[list[np.ndarray]] = []
        self._unsaved = 0
        atexit.register(self.save)

    def record(self, layer: int, ids: torch.Tensor) -> None:
        """``ids`` [T, k] of a step, layers in their order."""
        while len(self._layers) <= layer:
            self._layers.append([])
        self._layers[layer].append(ids.to("cpu", torch.int16).numpy().copy())
        if layer == len(self._layers) - 1:
            self._unsaved += len(ids)
            if self._unsaved >= SAVE_EVERY:
                self.save()

    def save(self) -> None:
        """Write the steps that all layers have seen."""
        steps = min((len(layer) for layer in self._layers), default=0)
        if steps == 0:
            return
        ids = np.stack([np.concatenate(layer[:steps]) for layer in self._layers], axis=1)
        partial = self._path.with_suffix(".partial.npz")
        np.savez_compressed(partial, ids=ids, experts=self._experts)
        partial.replace(self._path)
        self._unsaved = 0
