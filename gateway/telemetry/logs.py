"""Logs as one JSON object a line. Prompts, answers and secrets are never part of one."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections import deque
from functools import lru_cache
from typing import Protocol

import msgspec

from gateway.masking import mask
from gateway.telemetry.series import Counter

#: What looks like a credential: a bearer token, a key of the usual shapes, a password in a URL.
_SECRET = re.compile(
    r"(?i:\b(bearer|basic)\s+)[\w.~+/=-]{6,}"
    r"|\b(?:sk|pk|hf|gh[pousr]|xox[abp])[-_][\w-]{8,}"
    r"|(?i:\b(?:api[-_]?key|token|password|secret)\b[\"']?\s*[=:]\s*)[\"']?[^\s\"',}]{4,}"
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"
)
#: Lines that may wait for whoever reads the log.
MAX_WAITING = 20_000
#: How long a line may wait for others to be written with it.
GATHER_S = 0.1
_CLOSE_S = 5.0


def redact(text: str) -> str:
    """The text with everything that looks like a credential replaced by ``***``."""
    return _SECRET.sub("***", mask(text))


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _timestamp(int(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


def configure_logs(level: int = logging.INFO) -> None:
    """Send every log of the process to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class Row(Protocol):
    """A finished request, as a msgspec struct; all its fields are written."""

    @property
    def at_s(self) -> float: ...


#: The descriptor itself: sys.stderr may be an object that has none.
STANDARD_ERROR = 2


class RequestLog:
    """One line for every finished request, encoded and written by a thread of its own.

    A reader of the log that does not keep up loses lines, which are counted, and holds up nobody.
    """

    def __init__(self, lost: Counter, file: int | None = None) -> None:
        self._lost = lost
        self._file = STANDARD_ERROR if file is None else file
        self._waiting: deque[Row] = deque()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waiting_lines(self) -> int:
        return len(self._waiting)

    def note(self, row: Row) -> None:
        """Hand a finished request over; returns at once."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost.inc()
            return
        self._waiting.append(row)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._write_forever, name="request-log", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Write what waits; nothing may be noted afterwards."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _write_forever(self) -> None:
        is_open = True
        while is_open:
            is_open = not self._closing.wait(GATHER_S)
            while lines := self._take():
                self._write(lines)

    def _take(self) -> list[bytes]:
        lines: list[bytes] = []
        while self._waiting and len(lines) < 1_000:
            lines.append(request_line(self._waiting.popleft()))
        return lines

    def _write(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:  # nobody reads the log any more, and there is nowhere else to say so
            self._lost.inc(len(lines))


_encode = msgspec.json.Encoder().encode


def request_line(row: Row) -> bytes:
    """The line of a finished request."""
    head = f'{{"time":"{_timestamp(int(row.at_s))}","level":"info","logger":"thalamus.requests",'
    return head.encode() + _encode(row)[1:] + b"\n"


@lru_cache(maxsize=8)
def _timestamp(at_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
