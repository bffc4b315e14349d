"""What pages show is what the program takes: every command's words, every piece of configuration.

`sh run` blocks are run whole (tests/e2e/test_pages.py); these are the others, which name files and
servers that are not here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import command_tree
from gateway.config import parse_config
from tests.docs.generate import DOCS

ROOT = DOCS.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
_STUB = {"m": {"backends": [{"url": "http://vllm:8000/v1"}]}}


def blocks_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands_of(page: Path) -> Iterator[tuple[bool, list[str]]]:
    """The words of every `thalamus …` that a page shows, and whether it is a block that shows them."""
    text = page.read_text()
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    shown = [(False, span) for span in re.findall(r"`([^`]+)`", outside)]
    for block in re.findall(r"^```[a-z ]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        shown += [(True, line) for line in block.replace("\\\n", " ").splitlines()]
    for is_block, line in shown:
        found = re.search(r"(?:^|[ (])(?:\.venv/bin/)?thalamus ([a-z].*)", " ".join(line.split()))
        if found is None or re.search(r"[…|]", found[1]) or line.startswith("docker "):
            continue
        command = re.split(r" [>&]|2>|;|\)$| #", found[1].replace("[", "").replace("]", ""))[0]
        yield is_block, shlex.split(command)


COMMANDS = [(page.name, *found) for page in PAGES for found in commands_of(page)]


def test_pages_show_commands() -> None:
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(
    ("page", "is_block", "words"),
    COMMANDS,
    ids=[f"{page}: {' '.join(words)}" for page, _, words in COMMANDS],
)
def test_the_program_takes_the_words_of_each_command(
    page: str, is_block: bool, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status: object = 0
    try:
        command_tree().parse_args(words)
    except SystemExit as end:
        status = end.code
    why = capsys.readouterr().err
    # Prose may name a command without all that it must be given.
    is_only_short = re.search(r"arguments are required|expected one argument", why)
    assert status == 0 or (is_only_short and not is_block), f"{page}: {why}"


def sections_of(page: Path) -> Iterator[Mapping[str, Any]]:
    """Every piece of our configuration that a page shows; of values of the chart, their ``config``."""
    for block in blocks_of(page, "yaml"):
        document = yaml.safe_load(block)
        if page.name == "kubernetes.md":
            document = document.get("config")
        if document is not None:
            yield document


SECTIONS = [(page.name, section) for page in PAGES for section in sections_of(page)]


@pytest.mark.parametrize(
    ("page", "section"), SECTIONS, ids=[f"{page}: {', '.join(keys)}" for page, keys in SECTIONS]
)
def test_each_piece_of_configuration_is_one(
    page: str, section: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in re.findall(r"env:(\w+)", str(section)):
        monkeypatch.setenv(name, "x")
    parse_config({"models": _STUB, **section}, page)
