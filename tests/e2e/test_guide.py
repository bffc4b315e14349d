"""The guide works as printed: its blocks, in their order, in one folder, by one shell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.demo_process import THALAMUS, Demo

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text()
BLOCKS = re.findall(r"^```sh run\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


@pytest.mark.timeout(300)
def test_every_block_of_the_guide_runs(demo: Demo, tmp_path: Path) -> None:
    assert len(BLOCKS) == 6
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(["set -x", *BLOCKS])],
        cwd=tmp_path,
        env={
            "PATH": f"{THALAMUS.parent}:{os.environ['PATH']}",
            "HOME": "/nonexistent",
            "THALAMUS": demo.url,
            "REPOSITORY": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "x-routing-model: smollm2" in done.stdout
    assert "on_pareto_front" in done.stdout
    assert "sk-thalamus-" in done.stdout
    assert (tmp_path / "my-router").is_dir()
    assert (tmp_path / "guarantee.json").is_file()
    assert (tmp_path / "measured.parquet").is_file()
