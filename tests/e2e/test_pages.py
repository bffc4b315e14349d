"""Pages whose blocks work as printed: each page in a folder of its own, by one shell, in its order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.demo_process import THALAMUS, Demo, free_port
from tests.unit.gateway.ledger.test_saved import known_log, write

ROOT = Path(__file__).parents[2]
#: Pages with blocks to run, and how many: one that lost its mark must not go unseen.
PAGES = {
    "production.md": 4,
    "security.md": 1,
    "faq.md": 3,
    "savings.md": 1,
    "keys.md": 1,
    "operations.md": 4,
    "flags.md": 2,
    "policies.md": 1,
}
_END = '[ -z "$(jobs -p)" ] || { kill $(jobs -p); wait; }'


def blocks_of(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"^```sh run\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prepare(page: str, folder: Path) -> None:
    """Lay down the files that a page takes for granted."""
    if page == "savings.md":
        for name in ("decisions", "monday", "tuesday"):
            write(folder / f"{name}.jsonl", known_log())
    if page == "keys.md":
        document = {
            "auth": {"mode": "keys", "keys": "keys.db"},
            "models": {"qwen3-30b-a3b": {"backends": [{"url": "http://vllm:8000/v1"}]}},
        }
        (folder / "thalamus.yaml").write_text(yaml.safe_dump(document))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs(page: str, demo: Demo, tmp_path: Path) -> None:
    port, admin_port = str(free_port()), str(free_port())
    blocks = [b.replace("8095", port).replace("8096", admin_port) for b in blocks_of(page)]
    assert len(blocks) == PAGES[page]
    prepare(page, tmp_path)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([f"trap '{_END}' EXIT", "set -x", *blocks])],
        cwd=tmp_path,
        env={
            "PATH": f"{THALAMUS.parent}:{os.environ['PATH']}",
            "HOME": "/nonexistent",
            "THALAMUS": demo.url,
            "BACKEND": demo.url,
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    if page == "production.md":
        assert "3 of 3 decisions are compared" in done.stdout
        assert "answers" in done.stdout


def test_no_page_has_blocks_that_nothing_runs() -> None:
    marked = {page.name for page in (ROOT / "docs").glob("*.md") if blocks_of(page.name)}
    assert marked == {*PAGES, "guide.md"}
