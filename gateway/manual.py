"""What ``thalamus --help`` says beyond the options: what a command is for, examples, where to read on.

One page for each command (gateway.manual_pages); a test holds that none is missing and that every
option has a meaning. The man page and the completions are made of the same tree.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Of every command; a page may say more of 1.
EXIT_STATUS = {
    "0": "done",
    "1": "what you can mend is wrong: one line on standard error says what and where",
    "2": "the command line is wrong",
    "130": "ended by Ctrl-C",
}
_EXAMPLES = "examples:"
ENVIRONMENT = {
    "COLUMNS": "width of the tables that are printed",
    "NO_COLOR": "set to anything: no colours",
    "any NAME": "read where a configuration has a secret as env:NAME",
}
#: Of options that many commands have, or that say themselves what they are.
OPTIONS = {
    "-h": "show this page",
    "--version": "show the version",
    "--json": "print JSON, for programs",
    "--data": "long-format parquet: prompt_id, source, task, prompt, model, score, …",
    "--out": "file or folder to write",
    "--seed": "of everything that is drawn at random",
    "--rounds": "how often each case is measured; the median counts",
    "--deny": "never this model; may be given again",
    "--expires-days": "days until it is no longer valid; without it, never",
    "--requests-per-minute": "requests, at most",
    "--tokens-per-minute": "tokens of prompts and answers together, at most",
    "--concurrency": "requests under way at once, at most",
    "--budget-usd-per-day": "US dollars a day (UTC), at most",
    "--budget-usd-per-month": "US dollars a month (UTC), at most",
    "--min-quality": "least predicted quality in [0, 1] of a model that may answer",
    "--max-cost-usd": "most that a request may be predicted to cost, US dollars",
    "--max-ttft-ms": "longest predicted time to the first token, milliseconds",
    "--max-latency-ms": "longest predicted time to the last token, milliseconds",
    "config": "YAML file",
    "prompt": "what a user would ask",
    "keys revoke id": "as thalamus keys list shows it",
    "id": "of a version, as thalamus learn status shows it",
    "model": "name of the model",
    "shell": "bash, zsh or fish",
}


@dataclass(frozen=True)
class Page:
    """``examples`` are command lines with what each is for; ``see`` other commands and pages."""

    about: str
    examples: dict[str, str]
    see: tuple[str, ...] = ()
    failure: str = ""


def document(parser: argparse.ArgumentParser, pages: dict[str, Page]) -> None:
    """Write the pages into a parser and all its commands. Commands without a page stay as they are."""
    for path, command in commands_of(parser):
        for action in command._actions:
            if action.help is None or action.dest in {"help", "version"}:
                name = action.option_strings[0] if action.option_strings else action.dest
                action.help = OPTIONS.get(f"{path} {name}", OPTIONS.get(name, action.help))
            if action.metavar is None:
                action.metavar = _placeholder(action)
        command.formatter_class = _Formatter
        page = pages.get(path)
        if page is not None:
            command.description = page.about
            command.epilog = epilog(page)


def _placeholder(action: argparse.Action) -> str | None:
    """What stands for an option's value: its unit, or of what kind it is; None where choices tell."""
    if not action.option_strings or action.choices or action.nargs == 0:
        return None
    words = action.dest.split("_")
    units = [unit.upper() for unit in ("usd", "ms", "days") if unit in words]
    if units or action.type is None:
        return units[0] if units else None
    kinds: dict[object, str] = {Path: "FILE", int: "N"}
    return kinds.get(action.type, "X")


def commands_of(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser and all beneath it, each with the words that lead to it."""
    yield path, parser
    for name, command, _ in subcommands_of(parser):
        yield from commands_of(command, f"{path} {name}".strip())


def subcommands_of(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """The commands right beneath a parser: name, parser, and what each is for in a few words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            brief = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield name, command, brief.get(name, "")


def epilog(page: Page) -> str:
    """Examples, exit status, environment and where to read on, as they stand beneath the options."""
    lines = [_EXAMPLES]
    for command, purpose in page.examples.items():
        lines += [f"  {command}", f"      {purpose}"]
    lines += ["", "exit status:"]
    status = EXIT_STATUS | ({"1": page.failure} if page.failure else {})
    lines += [f"  {code:<4} {meaning}" for code, meaning in status.items()]
    lines += ["", "environment:"]
    lines += [f"  {name:<9} {meaning}" for name, meaning in ENVIRONMENT.items()]
    if page.see:
        lines += ["", "see also:", f"  {', '.join(page.see)}"]
    return "\n".join(lines)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Paragraphs of the terminal's width, and the default of every option that has one."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fill the paragraphs of a description; what stands in lines of its own stays so."""
        if text.startswith(_EXAMPLES):
            return super()._fill_text(text, width, indent)
        paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
        return "\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        default = shown_default(action)
        return text if default is None else f"{text} (default: {default})"


def shown_default(action: argparse.Action) -> str | None:
    """The default of an option as text with no format left in it; None where it says nothing."""
    has_default = action.option_strings and action.default not in (
        None, False, [], argparse.SUPPRESS,
    )  # fmt: skip
    if not has_default or "default" in (action.help or ""):
        return None
    return str(action.default).replace("%", "%%")
