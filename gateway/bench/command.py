"""``thalamus bench``: the rounds, their table, and where it is written."""

from __future__ import annotations

import json
import platform
import random
import sys
import tempfile
from pathlib import Path

from gateway.bench.peers import DIRECT, OURS, find_peers
from gateway.bench.report import table, write_into
from gateway.bench.run import (
    QUICK,
    Figures,
    Pace,
    allow_many_files,
    backend,
    draw_flames,
    measure,
    two_workers,
)
from gateway.errors import ConfigError


def bench_command(
    *,
    rounds: int,
    quick: bool,
    page: Path | None,
    raw: Path | None,
    chosen: list[str],
    flames: Path | None,
) -> None:
    """Measure and print the table; raises ConfigError for what is missing on the machine."""
    if platform.system() != "Linux":
        raise ConfigError("bench reads /proc and pins to cores: it runs on Linux alone")
    allow_many_files()
    pace = QUICK if quick else Pace()
    with tempfile.TemporaryDirectory(prefix="thalamus-bench-") as name:
        folder = Path(name)
        wanted = {DIRECT, OURS, *chosen}
        peers = [peer for peer in find_peers(folder) if not chosen or peer.name in wanted]
        found: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
        with backend(folder) as behind:
            for index in range(rounds):
                order = list(peers)
                random.Random(index).shuffle(order)  # noqa: S311 - who is measured after whom
                for peer in order:
                    _say(f"round {index + 1} of {rounds}: {peer.name}")
                    is_first = index == 0
                    figures = measure(peer, folder, behind.pid, pace, with_memory=is_first)
                    found[peer.name].append(figures)
                    if raw is not None:
                        with raw.open("a") as lines:
                            told = {"gateway": peer.name, "round": index, **figures}
                            lines.write(json.dumps(told) + "\n")
            ratio = two_workers(folder, pace)
            if flames is not None:
                draw_flames(folder, flames)
    text = table(peers, found, ratio)
    print(text)
    if page is not None:
        write_into(page, text)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
