"""The page of faults names tests that exist, and no file of fault tests is without a row on it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "tests" / "faults"
PAGE = (ROOT / "docs" / "faults.md").read_text()
NAMED = re.findall(r"`(?:(tests/[\w/]+)/)?(test_\w+\.py)::(\w+)`", PAGE)


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 50
    assert not [row for row in rows if "::test_" not in row]


def test_every_test_that_is_named_exists() -> None:
    missing = [
        f"{folder or 'tests/faults'}/{file}::{name}"
        for folder, file, name in NAMED
        if name not in names_in((ROOT / folder if folder else FAULTS) / file)
    ]
    assert not missing


def test_every_file_of_fault_tests_has_a_row() -> None:
    #: What a decision log holds is no fault.
    files = {path.name for path in FAULTS.glob("test_*.py")} - {"test_decision_log.py"}
    assert files == {file for folder, file, _ in NAMED if not folder}
