"""The manual: every command and option has its words, and every example is one that is accepted."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.cli import command_tree, main
from gateway.man_page import man_page
from gateway.manual import commands_of
from gateway.manual_pages import PAGES

ROOT = Path(__file__).parents[3]
TREE = command_tree()
COMMANDS = dict(commands_of(TREE))


def test_every_command_has_a_page_and_every_page_a_command() -> None:
    assert set(PAGES) == set(COMMANDS), "write its page in gateway/manual_pages.py"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_has_a_meaning(path: str) -> None:
    silent = [
        action.option_strings or action.dest
        for action in COMMANDS[path]._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert not silent, "say it in gateway/cli.py, or in OPTIONS of gateway/manual.py"


@pytest.mark.parametrize(
    "example", [example for page in PAGES.values() for example in page.examples]
)
def test_every_example_is_accepted(example: str) -> None:
    found = re.search(r"(?:^|\()thalamus ([^>&)]*)", example)
    if found is None:
        assert "thalamus" in example  # a signal to it
        return
    assert TREE.parse_args(shlex.split(found.group(1))).run is not None


@pytest.mark.parametrize("path", PAGES)
def test_what_to_see_is_there(path: str) -> None:
    for target in PAGES[path].see:
        if target.startswith("thalamus "):
            assert target.removeprefix("thalamus ") in COMMANDS
        else:
            assert (ROOT / target).is_file(), target


def test_help_tells_units_defaults_examples_and_what_the_exit_status_means(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["replay", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "(default: 0.95)" in text
    for heading in ("examples:", "exit status:", "environment:", "see also:"):
        assert f"\n{heading}\n" in text
    description = text.partition("options:")[0]
    assert max(map(len, description.splitlines())) <= 80


def test_a_wrong_command_line_ends_with_the_status_that_the_manual_says() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay"])
    assert ended.value.code == 2


def test_the_man_page_is_without_fault_for_groff() -> None:
    groff = shutil.which("groff")
    if groff is None:
        assert "CI" not in os.environ, "install groff"
        pytest.skip("groff is not installed")
    page = man_page(TREE, PAGES)
    done = subprocess.run(
        [groff, "-man", "-ww", "-K", "utf8", "-T", "utf8", "-P", "-c"],
        input=page, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    shown = re.sub(r".\x08", "", done.stdout)
    for path in filter(None, COMMANDS):
        assert f"thalamus {path}" in shown
    assert "--budget-usd-per-day" in shown
    assert "'" in shown or "(aq" not in shown
