"""The written reference pages say what the code says, and leave nothing without a word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.generate import DOCS, pages

PAGES = pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_page_is_what_the_code_writes(path: Path) -> None:
    assert path.read_text() == PAGES[path], "run `python -m tests.docs.generate`"


def test_every_setting_metric_and_error_has_a_meaning() -> None:
    for path, text in PAGES.items():
        if path.suffix != ".md":
            continue
        rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
        silent = [row for row in rows if re.search(r"\|\s*(–)?\s*\|$", row)]
        assert not silent, (path.name, silent)


def test_links_between_pages_lead_somewhere() -> None:
    root = DOCS.parent
    for page in (*DOCS.glob("**/*.md"), root / "README.md", root / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tests_that_pages_name_are_there() -> None:
    root = DOCS.parent
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", page.read_text()):
            assert (root / target).exists(), f"{page.name} names {target}"
