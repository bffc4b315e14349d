"""Change ``policies`` in every small way, and count the changes that its tests notice.

    python -m tests.mutation [--only policies/choose.py …] [--json OUT] [--minutes M]

Each mutant is tried in a fork of its own, against the tests of ``policies`` with fewer examples a
property than usual: what is killed here is killed by the whole suite too. A mutant that runs for a
minute counts as killed. Exits with 1 when fewer than 90 % are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.mutation.mutants import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
TARGET = 0.90
LIMIT_S = 60
EXAMPLES = 40


def stage(into: Path) -> None:
    """A tree like the repository's, with a copy of ``policies`` in it that may be changed."""
    for name in ("tests", "gateway", "router_models", "pyproject.toml"):
        (into / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "policies", into / "policies")


def survives(staged: Path, module: Path, mutant: Mutant) -> bool:
    """Whether every test passes although the module is changed."""
    place = staged / module
    original = place.read_text()
    place.write_text(mutant.source)
    try:
        child = os.fork()
        if child == 0:
            try:
                os._exit(_run_tests(staged, module))
            finally:  # the fork must never go on as its parent
                os._exit(99)
        return _waited(child)
    finally:
        place.write_text(original)


def _run_tests(staged: Path, module: Path) -> int:
    """In the fork: the module's own tests first, since they notice most."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(staged)
    sys.path[:] = [str(staged), *(p for p in sys.path if p not in {"", str(ROOT)})]
    sys.dont_write_bytecode = True
    for name in [n for n in sys.modules if n.partition(".")[0] in {"tests", "policies", "gateway"}]:
        del sys.modules[name]
    own = Path("tests/unit/policies") / f"test_{module.stem}.py"
    files = [str(own)] if (staged / own).exists() else []
    quietly = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    return pytest.main([*quietly, *files, "tests/unit/policies"])


def _waited(child: int) -> bool:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def modules(only: list[str]) -> Iterator[Path]:
    for path in sorted((ROOT / "policies").glob("*.py")):
        name = path.relative_to(ROOT)
        if not only or str(name) in only:
            yield name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="modules, as paths from the root")
    parser.add_argument("--json", type=Path, help="also write every survivor there")
    args = parser.parse_args()
    hypothesis.settings.register_profile(
        "mutation", max_examples=EXAMPLES, deadline=None, database=None, derandomize=True
    )
    hypothesis.settings.load_profile("mutation")
    killed = total = 0
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder)
        stage(staged)
        for module in modules(args.only):
            if not survives(staged, module, Mutant(0, "none", (ROOT / module).read_text())):
                raise SystemExit("the tests fail without any change")
            mutants = list(mutants_of((ROOT / module).read_text()))
            alive = [m for m in mutants if survives(staged, module, m)]
            total += len(mutants)
            killed += len(mutants) - len(alive)
            print(f"{module}: {len(mutants) - len(alive)} of {len(mutants)} killed", flush=True)
            for mutant in alive:
                print(f"  line {mutant.line}: {mutant.change}", flush=True)
                survivors.append(
                    {"module": str(module), "line": mutant.line, "change": mutant.change}
                )
    print(f"{killed} of {total} killed: {killed / total:.1%}")
    if args.json:
        args.json.write_text(
            json.dumps({"killed": killed, "total": total, "survivors": survivors}, indent=1) + "\n"
        )
    return int(killed < TARGET * total)


if __name__ == "__main__":
    sys.exit(main())
