"""Completion as real shells do it: bash and zsh at a terminal with TAB, fish by its own complete -C."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from gateway.cli import main

#: Stands in for the command and tells what words it was called with.
_STUB = "thalamus() { printf '<%s>' \"$@\"; echo .END; }\n"
BASH = ["bash", "--norc", "--noprofile", "-i"]
ZSH = ["zsh", "-f", "-i"]


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", shell]) == 0
    path = folder / f"thalamus.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        assert "CI" not in os.environ, f"install {shell}"
        pytest.skip(f"{shell} is not installed")


def at_a_terminal(shell: list[str], prepared: str, typed: str, folder: Path) -> str:
    """What the stub was called with after somebody typed this and pressed return."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ.update(PS1="$ ", TERM="dumb", INPUTRC="/dev/null", HOME=str(folder))
        os.execvp(shell[0], shell)  # noqa: S606 - it is the shell
    try:
        seen = _type(terminal, f"{prepared}\necho READ''Y\n", "READY")
        assert "READY" in seen
        seen = ""
        for piece in typed.split("\t")[:-1]:
            os.write(terminal, piece.encode() + b"\t")
            seen += _read(terminal, 0.6)
        seen += _type(terminal, typed.rpartition("\t")[2] + "\n", ".END")
        return seen
    finally:
        os.close(terminal)
        os.kill(process, 9)
        os.waitpid(process, 0)


def _type(terminal: int, text: str, until: str, limit_s: float = 20) -> str:
    os.write(terminal, text.encode())
    seen, ends_by_s = "", time.monotonic() + limit_s
    while f"{until}\r" not in seen and time.monotonic() < ends_by_s:
        seen += _read(terminal, 0.2)
    return seen


def _read(terminal: int, wait_s: float) -> str:
    seen = b""
    while select.select([terminal], [], [], wait_s)[0]:
        try:
            seen += os.read(terminal, 65536)
        except OSError:
            break
        wait_s = 0.2
    return seen.decode("utf-8", "replace")


TYPED = [
    ("thalamus sav\t --j\t", "<savings><--json>"),
    ("thalamus keys cr\t bob --inl\t", "<keys><create><bob><--inline-flags>"),
    ("thalamus train --rou\tperc\t", "<train><--router><perceptive>"),
    ("thalamus check-config my\t", "<check-config><my own.yaml>"),
    ("thalamus serve --config my\t", "<serve><--config><my own.yaml>"),
    ("thalamus completion fi\t", "<completion><fish>"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my own.yaml").touch()
    return tmp_path


@pytest.mark.parametrize(("typed", "called"), TYPED)
def test_bash_completes_what_is_typed(
    typed: str, called: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("bash")
    prepared = f"{_STUB}source {script('bash', folder, capsys)}"
    assert called in at_a_terminal(BASH, prepared, typed, folder)


@pytest.mark.parametrize(("typed", "called"), TYPED)
def test_zsh_completes_what_is_typed(
    typed: str, called: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("zsh")
    path = script("zsh", folder, capsys)
    prepared = f"{_STUB}autoload -U compinit && compinit -u -D\nsource {path}"
    # With a space after a completed value zsh goes on by itself.
    assert called in at_a_terminal(ZSH, prepared, typed.replace("\t ", "\t"), folder)


def offered_by_bash(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    program = (
        f"source {script('bash', folder, capsys)}; words=({line}); "
        f"[[ '{line}' == *' ' ]] && words+=(''); "
        'COMP_WORDS=(${words[@]+"${words[@]}"}); COMP_CWORD=$((${#words[@]} - 1)); '
        "_thalamus; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("thalamus keys ", {"create", "list", "revoke"}),
        ("thalamus keys --file create ", {"create", "list", "revoke"}),  # a file of that name
        ("thalamus usage --by m", {"model", "month"}),
        ("thalamus keys create bob --priority ", {"low", "normal", "high"}),
        ("thalamus serve --port ", set()),  # nobody can guess it
        ("thalamus pilots add-model x --d", {"--data"}),
        ("thalamus completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_offers_what_fits_the_place(
    line: str, offered: set[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offered_by_bash(line, folder, capsys) == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("thalamus sav", {"savings"}),
        ("thalamus keys ", {"create", "list", "revoke"}),
        ("thalamus usage --by m", {"model", "month"}),
        ("thalamus keys create --inl", {"--inline-flags"}),
        ("thalamus serve --config my", {"my own.yaml"}),
        ("thalamus check-config my", {"my own.yaml"}),
    ],
)
def test_fish_offers_what_fits_the_place(
    line: str, offered: set[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("fish")
    path = script("fish", folder, capsys)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"],
        capture_output=True, text=True, check=True, cwd=folder, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    words = {row.partition("\t")[0] for row in done.stdout.splitlines()}
    assert {word.replace("\\ ", " ") for word in words} == offered
