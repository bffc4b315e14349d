"""Completion for bash, zsh and fish, made of the tree of commands: no Python runs when TAB is hit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from gateway.manual import commands_of, subcommands_of

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class _Value:
    """What stands after an option, or in a command's own place: files, some words, or anything."""

    is_file: bool
    words: tuple[str, ...]


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for one of ``SHELLS``."""
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return "\n".join(write(parser)) + "\n"


def _options(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in command._actions if action.option_strings)


def _value(action: argparse.Action) -> _Value | None:
    """None for an option that takes no value."""
    if action.nargs == 0:
        return None
    return _Value(action.type is Path, tuple(map(str, action.choices or ())))


def _places(command: argparse.ArgumentParser) -> list[_Value]:
    """What may stand in a command's own places."""
    plain = (
        action
        for action in command._actions
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
    )
    return [value for action in plain if (value := _value(action)) is not None]


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def _bash(parser: argparse.ArgumentParser) -> Iterator[str]:
    name = parser.prog
    tree = [("/" + path.replace(" ", "/") if path else "", c) for path, c in commands_of(parser)]
    known = "|".join(path for path, _ in tree if path)
    valued = [
        (path, option, value)
        for path, command in tree
        for action in _options(command)
        if (value := _value(action)) is not None
        for option in action.option_strings
    ]
    yield f"# bash completion of {name}, written by `{name} completion bash`"
    yield f"_{name}() {{"
    yield "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}"
    yield "    local path= words= files= at word"
    yield '    if [[ $current == "=" ]]; then'
    yield "        current="
    yield '    elif [[ $previous == "=" ]]; then'
    yield "        previous=${COMP_WORDS[COMP_CWORD-2]}"
    yield "    fi"
    yield "    for ((at = 1; at < COMP_CWORD; at++)); do"
    yield "        word=${COMP_WORDS[at]}"
    yield '        case "$path $word" in'
    patterns = "|".join(f'"{path} {option}"' for path, option, _ in valued)
    yield f"            {patterns})"
    yield '                [[ ${COMP_WORDS[at+1]} == "=" ]] && ((at++))'
    yield "                ((at++))"
    yield "                continue ;;"
    yield "        esac"
    yield '        case "$path/$word" in'
    yield f'            {known}) path="$path/$word" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$path $previous" in'
    for path, option, value in valued:
        told = "files=1" if value.is_file else f"words={quote(' '.join(value.words))}"
        yield f'        "{path} {option}") {told} ;;'
    yield "        *)"
    yield '            case "$path" in'
    for path, command in tree:
        options = [option for action in _options(command) for option in action.option_strings]
        names = [name for name, _, _ in subcommands_of(command)]
        places = _places(command)
        names += [word for value in places for word in value.words]
        has_files = " files=1;" if any(value.is_file for value in places) else ""
        yield f'                "{path}")'
        yield f"                    words={quote(' '.join(names))};{has_files}"
        yield f"                    [[ $current == -* ]] && words={quote(' '.join(options))} files= ;;"
    yield "            esac ;;"
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "    if [[ $files ]]; then"
    yield "        compopt -o filenames 2>/dev/null"
    yield "        local IFS=$'\\n'"
    yield '        COMPREPLY+=($(compgen -f -- "$current"))'
    yield "    fi"
    yield "}"
    yield f"complete -F _{name} {name}"


def _zsh(parser: argparse.ArgumentParser) -> Iterator[str]:
    name = parser.prog
    yield f"#compdef {name}"
    yield f"# zsh completion of {name}, written by `{name} completion zsh`"
    for path, command in reversed(list(commands_of(parser))):
        function = f"_{name}_{path.replace(' ', '_').replace('-', '_')}".rstrip("_")
        yield f"{function}() {{"
        yield '    local curcontext="$curcontext" state line'
        yield "    local -A opt_args"
        yield "    _arguments -C \\"
        for action in _options(command):
            yield from (f"        {spec} \\" for spec in _zsh_option(action))
        below = list(subcommands_of(command))
        if below:
            named = " ".join(f'{sub}\\:"{_zsh_text(brief)}"' for sub, _, brief in below)
            yield f"        {quote(f'1:command:(({named}))')} \\"
            yield "        '*::argument:->next'"
            yield '    [[ $state == next ]] && case "$line[1]" in'
            for sub, _, _ in below:
                called = f"{function}_{sub.replace('-', '_')}"
                yield f"        {sub}) {called} ;;"
            yield "    esac"
        else:
            yield from (f"        {quote(_zsh_place(value))} \\" for value in _places(command))
            yield "        && return 0"
        yield "}"
    yield f'if [[ $funcstack[1] == "_{name}" ]]; then _{name} "$@"; else compdef _{name} {name}; fi'


def _zsh_option(action: argparse.Action) -> Iterator[str]:
    value = _value(action)
    told = f"[{_zsh_text(_help(action))}]"
    again = "*" if isinstance(action, argparse._AppendAction) else ""
    for option in action.option_strings:
        if value is None:
            yield quote(f"{again}{option}{told}")
        else:
            yield quote(f"{again}{option}{told}:{action.dest}:{_zsh_action(value)}")


def _zsh_place(value: _Value) -> str:
    return f"*:argument:{_zsh_action(value)}"


def _zsh_action(value: _Value) -> str:
    if value.is_file:
        return "_files"
    return f"({' '.join(value.words)})"


def _zsh_text(text: str) -> str:
    for sign in ("\\", "[", "]", ":", '"', "`", "$"):
        text = text.replace(sign, f"\\{sign}")
    return text


def _fish(parser: argparse.ArgumentParser) -> Iterator[str]:
    name = parser.prog
    yield f"# fish completion of {name}, written by `{name} completion fish`"
    yield f"complete -c {name} -f"
    for path, command in commands_of(parser):
        begun = [f"__fish_seen_subcommand_from {word}" for word in path.split()]
        below = [sub for sub, _, _ in subcommands_of(command)]
        alone = [*begun, f"not __fish_seen_subcommand_from {' '.join(below)}"] if below else begun
        head = f"complete -c {name} -n {quote('; and '.join(alone))}"
        for sub, _, brief in subcommands_of(command):
            yield f"{head} -a {sub} -d {quote(brief)}"
        for value in _places(command):
            yield f"{head} -F" if value.is_file else f"{head} -a {quote(' '.join(value.words))}"
        for action in _options(command):
            yield f"{head} {_fish_option(action)} -d {quote(_help(action))}"


def _fish_option(action: argparse.Action) -> str:
    named = " ".join(
        f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
        for option in action.option_strings
    )
    value = _value(action)
    if value is None:
        return named
    if value.is_file:
        return f"{named} -r -F"
    return f"{named} -x -a {quote(' '.join(value.words))}" if value.words else f"{named} -x"
