"""The man page thalamus(1), made of the same tree of commands as ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from gateway.manual import (
    ENVIRONMENT,
    EXIT_STATUS,
    Page,
    commands_of,
    shown_default,
    subcommands_of,
)


def man_page(parser: argparse.ArgumentParser, pages: Mapping[str, Page]) -> str:
    """The page in roff's man macros."""
    top = pages[""]
    name = parser.prog
    lines = [
        '.\\" Written by `python -m tests.docs.generate`.',
        f'.TH {name.upper()} 1 "" "{_plain(name)}" "User commands"',
        ".SH NAME",
        f"{_plain(name)} \\- {_text('LLM gateway that perceives a prompt before it routes it')}",
        ".SH SYNOPSIS",
        f".B {_plain(name)}",
        ".I COMMAND",
        "[\\fIOPTION\\fR]...",
        ".SH DESCRIPTION",
        *_paragraphs(top.about),
        ".SH COMMANDS",
    ]
    for path, command in commands_of(parser):
        is_leaf = not list(subcommands_of(command))
        if path:
            lines += _command(f"{name} {path}", command, pages.get(path), is_leaf=is_leaf)
    lines += [".SH EXAMPLES", *_examples(top)]
    lines += [".SH EXIT STATUS", *_terms(EXIT_STATUS)]
    lines += [".SH ENVIRONMENT", *_terms(ENVIRONMENT)]
    lines += [".SH SEE ALSO", _text(", ".join(top.see))]
    return "\n".join(lines) + "\n"


def _command(
    title: str, command: argparse.ArgumentParser, page: Page | None, *, is_leaf: bool
) -> Iterator[str]:
    yield f".SS {_text(title)}"
    if page is not None:
        yield from _paragraphs(page.about)
    for action in command._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        yield ".TP"
        yield _heading(action)
        default = shown_default(action)
        shown = action.help or ""
        yield _text(shown if default is None else f"{shown} (default: {default})")
    if page is not None and is_leaf:
        yield ".PP"
        yield "Examples:"
        yield from _examples(page)
        if page.see:
            yield ".PP"
            yield _text(f"See also: {', '.join(page.see)}")


def _heading(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return f"\\fI{_plain(metavar)}\\fR"
    options = ", ".join(f"\\fB{_plain(option)}\\fR" for option in action.option_strings)
    if action.nargs == 0:
        return options
    value = "|".join(map(str, action.choices)) if action.choices else metavar
    return f"{options} \\fI{_plain(value)}\\fR"


def _examples(page: Page) -> Iterator[str]:
    for command, purpose in page.examples.items():
        yield from (".TP", f"\\fB{_plain(command)}\\fR", _text(purpose))


def _terms(terms: Mapping[str, str]) -> Iterator[str]:
    for term, meaning in terms.items():
        yield from (".TP", f"\\fB{_plain(term)}\\fR", _text(meaning))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    """Text with nothing in it that roff would take for its own."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")


def _text(text: str) -> str:
    """A line of prose; it never begins with a control character."""
    shown = _plain(text).replace("%%", "%")
    return f"\\&{shown}" if shown.startswith((".", "'", "\\(aq")) else shown
