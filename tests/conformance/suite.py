"""Somebody else's tests, run in a process of their own against an address."""

from __future__ import annotations

import asyncio
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What each test came to: ``passed``, or why not, by the test's name."""

    results: dict[str, str]

    @property
    def passed(self) -> set[str]:
        return {name for name, result in self.results.items() if result == "passed"}

    @property
    def failed(self) -> dict[str, str]:
        """Those that neither passed nor were skipped."""
        return {n: r for n, r in self.results.items() if not r.startswith(("passed", "skipped"))}

    def lost(self, through: Outcome) -> dict[str, str]:
        """The tests that pass here and not in ``through``, each with what happened there."""
        return {
            name: through.results.get(name, "did not run") for name in self.passed - through.passed
        }


async def run_suite(
    tests: Sequence[str], cwd: Path, env: Mapping[str, str], report: Path, *options: str
) -> Outcome:
    """Run pytest on ``tests`` in the folder ``cwd`` with ``env`` added to the environment."""
    pytest = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"),
        *("-W", "ignore", "-o", "addopts=", f"--junitxml={report}", *options, *tests),
        cwd=cwd,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await pytest.communicate()
    return _read(report, told.decode())


def _read(report: Path, told: str) -> Outcome:
    assert report.is_file(), told[-4000:]
    cases = ET.parse(report).iter("testcase")  # noqa: S314 - pytest's own report
    return Outcome({_name(case): _result(case) for case in cases})


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _result(case: ET.Element) -> str:
    for child in case:
        if child.tag in {"failure", "error", "skipped"}:
            return f"{child.tag}: {child.text or child.get('message')}"
    return "passed"
