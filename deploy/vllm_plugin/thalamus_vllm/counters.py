"""The worker's side of the metrics: a row of counters a layer, written to a file."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import torch

ROWS = 512  # layers of one process, more than any model has
WRITE_EVERY_S = 1.0


class Counters:
    """Rows of ``fused_experts.tally`` for this process's layers, and a copy for the host.

    On a GPU the copy is made by the last layer's launches, so reading it needs no call to the
    device.
    """

    def __init__(self, experts: int, device: torch.device) -> None:
        self.rows = torch.zeros(ROWS, 4 + experts, dtype=torch.int64, device=device)
        on_gpu = device.type != "cpu"
        self.seen = (
            torch.zeros_like(self.rows, device="cpu", pin_memory=True) if on_gpu else self.rows
        )
        self.layers = 0

    def row(self, layer: int, experts: int) -> torch.Tensor | None:
        """Layer ``layer``'s row; none for a layer whose number of experts is another."""
        if layer >= ROWS or experts != self.rows.shape[1] - 4:
            return None
        self.layers = max(self.layers, layer + 1)
        return self.rows[layer]

    def finished(self, layer: int) -> None:
        """After a layer's launches: the last one shows the host all rows."""
        if self.seen is not self.rows and layer == self.layers - 1:
            self.seen[: self.layers].copy_(self.rows[: self.layers], non_blocking=True)

    def snapshot(self) -> list[list[int]]:
        """The rows as the host last saw them."""
        return self.seen[: self.layers].tolist()


class CounterFile(threading.Thread):
    """Writes the snapshot when it has changed; a reader sees a whole file or the one before."""

    def __init__(self, counters: Counters, folder: Path) -> None:
        super().__init__(name="thalamus-counters", daemon=True)
        self._counters = counters
        self._path = folder / f"{worker_rank()}.{os.getpid()}.json"

    def run(self) -> None:
        written: list[list[int]] = []
        while True:
            rows = self._counters.snapshot()
            if rows != written:
                partial = self._path.with_suffix(".partial")
                partial.write_text(json.dumps({"worker": worker_rank(), "rows": rows}))
                partial.replace(self._path)
                written = rows
            time.sleep(WRITE_EVERY_S)


def worker_rank() -> int:
    """This process's rank in the model's parallel group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return 0
