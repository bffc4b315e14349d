"""Logs as one JSON object a line. Prompts, answers and secrets are never part of one."""

from __future__ import annotations

import logging
import sys

import msgspec

#: Attributes of a record that a caller may set through ``extra=``.
_EXTRA = ("request_id", "model", "backend", "outcome", "status", "duration_ms", "tokens")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: record.__dict__[key] for key in _EXTRA if key in record.__dict__})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure_logs(level: int = logging.INFO) -> None:
    """Send every log of the process to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
