"""``thalamus bench`` runs as a user would run it: every part, for seconds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from gateway.bench.report import BEGIN, END
from tests.deploy.gateway_process import THALAMUS

pytestmark = [pytest.mark.load, pytest.mark.timeout(300)]


def test_every_figure_is_measured_and_nothing_fails(tmp_path: Path) -> None:
    page, raw = tmp_path / "page.md", tmp_path / "rounds.jsonl"
    page.write_text(f"{BEGIN}\n{END}\n")
    words = ["--quick", "--rounds", "1", "--peer", "thalamus", "--page", page, "--raw", raw]
    bench = subprocess.run([THALAMUS, "bench", *words], capture_output=True, text=True, check=False)
    assert bench.returncode == 0, bench.stderr
    assert page.read_text() == f"{BEGIN}\n{bench.stdout}{END}\n"
    rounds = {told["gateway"]: told for told in map(json.loads, raw.read_text().splitlines())}
    ours = rounds["thalamus"]
    assert (ours["bad"], ours["crowd_bad"]) == (0, 0)
    spent = ("pinned_us", "auto_us", "auto_new_us", "rate_p50_us", "start_mib", "after_mib")
    assert ours["long_hold_us"] > 0
    assert all(ours[figure] > 0 for figure in spent)
    # A gap is what the backend was told: 200 ms.
    assert 150_000 < rounds["no gateway"]["crowd_gap_p99_us"] < 400_000
