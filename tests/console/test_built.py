"""The static files that are served are what their sources build, and hold nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.console.conftest import APP, NPM

pytestmark = [pytest.mark.console, pytest.mark.timeout(120)]

STATIC = APP.parent / "static"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    path = f"{NPM.parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=APP,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_files_served_are_what_the_sources_build(app_modules: Path, tmp_path: Path) -> None:
    vite = app_modules / ".bin" / "vite"
    built = run(vite, "build", "--outDir", tmp_path / "static", "--logLevel", "warn")
    assert built.returncode == 0, built.stdout + built.stderr
    files = {p.relative_to(tmp_path / "static"): p for p in (tmp_path / "static").rglob("*")}
    assert set(files) == {p.relative_to(STATIC) for p in STATIC.rglob("*")}
    stale = [
        str(name) for name, p in files.items() if p.read_bytes() != (STATIC / name).read_bytes()
    ]
    assert not stale, "run `npm run build` in gateway/console/app"


def test_types_hold(app_modules: Path) -> None:
    checked = run(app_modules / ".bin" / "tsc", "--noEmit")
    assert checked.returncode == 0, checked.stdout


def test_nothing_is_loaded_from_elsewhere() -> None:
    for path in STATIC.rglob("*"):
        if path.suffix in {".js", ".css", ".html"}:
            addresses = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text()))
            # Names of XML, which nobody fetches.
            assert not {a for a in addresses if not a.startswith("http://www.w3.org/")}, path.name


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (APP / "package-lock.json").read_text()
