"""Everything that was asked and answered, one line each, appended as it comes.

A kill loses what is under way and nothing else: the next run reads the journal and asks what is
missing. The last line of a prompt and a model counts; a line cut short does not.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import UNREADABLE_JSON
from router_models.types import DataError

FORMAT = 1


class Run(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="run"):
    """What every line of a journal was asked with; another run may not go on in it."""

    format: int = FORMAT
    prompts_sha256: str
    max_tokens: int
    temperature: float


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="answer"):
    """What a model said, or the ``error`` in its place."""

    prompt_id: str
    model: str
    text: str | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Likelihood(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="likelihood"):
    """Mean loss of the reference under a model, nats per token, or the ``error`` in its place."""

    prompt_id: str
    model: str
    loss: float | None = None
    tokens: int | None = None
    prompt_tokens: int | None = None
    error: str | None = None


class Judged(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="judged"):
    """A judge's word on an answer against the baseline's, with its reasons in both orders.

    ``answers`` tells which two answers were compared, so that new ones are judged anew.
    """

    prompt_id: str
    model: str
    judge: str
    baseline: str
    answers: str
    score: float | None = None
    rationales: tuple[str, ...] = ()
    error: str | None = None


Line = Run | Answer | Likelihood | Judged

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


class Journal:
    """An open journal; ``lines`` are the latest of each kind, prompt and model."""

    def __init__(self, path: Path, run: Run | None) -> None:
        """Open and read; ``run`` begins a new journal, None reads one for its answers alone.

        Raises DataError when it is another run's, in use, or cannot be read or written.
        """
        self.path = path
        self.lines: dict[tuple[str, str, str], Line] = {}
        try:
            flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if run is not None else 0)
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise DataError(f"{path}: another collect writes it") from error
        try:
            self._begin(run)
        except DataError:
            os.close(self._file)
            raise

    def append(self, line: Answer | Likelihood | Judged) -> None:
        """Write one line whole. Raises DataError when the disk does not take it."""
        self._write(line)
        self.lines[_key(line)] = line

    def answer(self, prompt_id: str, model: str) -> Answer | None:
        """The answer of a model, if it gave one."""
        found = self.lines.get(("Answer", prompt_id, model))
        return found if isinstance(found, Answer) and found.text is not None else None

    def likelihood(self, prompt_id: str, model: str) -> Likelihood | None:
        found = self.lines.get(("Likelihood", prompt_id, model))
        return found if isinstance(found, Likelihood) and found.loss is not None else None

    def judged(self, prompt_id: str, model: str) -> Judged | None:
        found = self.lines.get(("Judged", prompt_id, model))
        return found if isinstance(found, Judged) and found.score is not None else None

    def close(self) -> None:
        os.close(self._file)

    def _begin(self, run: Run | None) -> None:
        content = self.path.read_bytes()
        was = self._take_lines(content)
        if content and not content.endswith(b"\n"):
            os.write(self._file, b"\n")
        if was is None and content.strip():
            raise DataError(f"{self.path}: is no journal of thalamus collect; name another file")
        if run is not None and was is None:
            self._write(run)
        elif run is not None and was != run:
            raise DataError(
                f"{self.path}: was begun with {_difference(was or run, run)}; name another file, "
                "or collect as then"
            )

    def _take_lines(self, content: bytes) -> Run | None:
        was: Run | None = None
        for number, piece in enumerate(content.split(b"\n"), start=1):
            try:
                line = _decoder.decode(piece) if piece.strip() else None
            except msgspec.ValidationError as error:
                raise DataError(f"{self.path}, line {number}: {error}") from error
            except UNREADABLE_JSON:
                continue  # a kill cut it short
            if isinstance(line, Run):
                was = was or line
            elif line is not None:
                self.lines[_key(line)] = line
        return was

    def _write(self, line: Line) -> None:
        data = _encoder.encode(line) + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror}") from error


def _key(line: Answer | Likelihood | Judged) -> tuple[str, str, str]:
    return type(line).__name__, line.prompt_id, line.model


def _difference(was: Run, now: Run) -> str:
    fields: dict[str, Any] = msgspec.structs.asdict(was)
    name = next(name for name, value in fields.items() if getattr(now, name) != value)
    if name == "prompts_sha256":
        return "other prompts"
    return f"{name} {fields[name]}"
