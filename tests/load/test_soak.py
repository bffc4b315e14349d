"""Memory, files and time of a gateway under minutes of traffic: flat, once what is kept is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.bench.gauge import own_memory_kib
from gateway.bench.peers import ourselves
from gateway.bench.run import (
    LOAD_CORE,
    Load,
    allow_many_files,
    backend,
    running_peer,
    shape,
)

pytestmark = [pytest.mark.load, pytest.mark.timeout(300)]
#: Seconds of each of four parts; SOAK_S sets it, an hour of it by hand.
PART_S = float(os.environ.get("SOAK_S", "4"))
MAX_GROWTH_KIB = 3 * 1024


def test_memory_and_files_stay_as_they_are_after_a_warm_up(tmp_path: Path) -> None:
    allow_many_files()
    peer = ourselves(tmp_path)
    with backend(tmp_path), running_peer(peer, tmp_path) as process:
        load = Load(peer, process.pid, LOAD_CORE)

        def part() -> tuple[int, int, int]:
            """All kinds of traffic; returns what memory, files and failures that leaves."""
            told = [load.wrk(PART_S, "mock"), load.wrk(PART_S, "auto", "new")]
            shape(chunks=50)
            told.append(load.clients("streams", streams=200, concurrency=50))
            shape()
            files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            return own_memory_kib(process.pid), files, int(sum(one["bad"] for one in told))

        part()  # fills what is kept: predictions, rows, connections
        parts = [part() for _ in range(3)]
        assert [failed for _, _, failed in parts] == [0, 0, 0]
        memory = [kib for kib, _, _ in parts]
        assert memory[-1] - memory[0] < MAX_GROWTH_KIB, memory
        files = [count for _, count, _ in parts]
        assert max(files) - min(files) < 80, files
