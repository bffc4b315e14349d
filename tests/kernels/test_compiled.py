"""The compiled kernels keep what the page says: no spills, room to launch, matrix instructions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(400),
]
PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
COLUMNS = (
    "gpu", "layer", "tokens", "kernel", "tile", "launch",
    "registers", "spilled", "shared", "limit", "matrix",
)  # fmt: skip


WITHOUT_INTERPRETER = {
    **{k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
    "TRITON_DEFAULT_FP_FUSION": "1",
}
SMALL = "import json, fused_experts.compiled as c; print(json.dumps(c.compile_small()))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page with its table made again, by a process in which triton compiles."""
    copy = tmp_path_factory.mktemp("docs") / "kernels.md"
    copy.write_text(PAGE.read_text())
    command = [sys.executable, "-m", "fused_experts.compiled", str(copy)]
    subprocess.run(command, env=WITHOUT_INTERPRETER, check=True, timeout=300)
    return copy.read_text()


@pytest.fixture(scope="module")
def rows(page: str) -> list[dict[str, str]]:
    table = page.split("<!-- compiled: begin -->")[1].split("<!-- compiled: end -->")[0]
    lines = table.strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(COLUMNS, row, strict=True)) for row in cells]


def test_the_table_is_current(page: str) -> None:
    assert page == PAGE.read_text()


def test_every_target_is_compiled(rows: list[dict[str, str]]) -> None:
    assert {row["gpu"] for row in rows} == {"sm_80", "sm_90", "sm_100", "gfx942"}
    bf16, fp8 = {"qwen3-30b-a3b", "mixtral-8x7b"}, {"qwen3 fp8, channels", "qwen3 fp8, blocks"}
    for gpu in ("sm_80", "sm_90", "sm_100", "gfx942"):
        layers = {row["layer"] for row in rows if row["gpu"] == gpu}
        assert layers == (bf16 | fp8 if gpu in {"sm_90", "sm_100"} else bf16)


def test_nothing_spills_and_everything_launches(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert row["spilled"] == "0", row
        assert int(row["shared"].replace(",", "")) <= int(row["limit"].replace(",", "")), row
        threads = int(row["launch"].split("/")[0]) * 32
        if row["gpu"].startswith("sm_"):
            assert int(row["registers"]) * threads <= 65_536, row


def test_tall_tiles_use_the_large_matrix_instructions(rows: list[dict[str, str]]) -> None:
    tall = [row for row in rows if int(row["tile"].split("×")[0]) >= 64]
    assert any("4096" in row["tokens"] for row in tall)
    wide = {"sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma"}
    for row in tall:
        assert row["matrix"].startswith(wide.get(row["gpu"], ("mma.sync", "v_mfma"))), row


def test_the_small_launches_compile_without_spills() -> None:
    command = [sys.executable, "-c", SMALL]
    done = subprocess.run(
        command, env=WITHOUT_INTERPRETER, check=True, capture_output=True, text=True, timeout=300
    )
    spills = json.loads(done.stdout)
    assert len(spills) == 6 * 4
    assert set(spills.values()) == {0}
