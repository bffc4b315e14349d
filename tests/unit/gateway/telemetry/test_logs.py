from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from gateway.telemetry import logs
from gateway.telemetry.logs import JsonFormatter, RequestLog, redact
from gateway.telemetry.metrics import Metrics
from tests.unit.gateway.telemetry.test_metrics import ROW
from tests.unit.gateway.telemetry.test_series import value


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdef123456",
        "the key sk-proj-abcdef123456 was refused",
        "api_key=abcdef123456",
        '{"password": "abcdef123456"}',
        "redis://user:abcdef123456@host:6379/0",
    ],
)
def test_credentials_are_redacted(text: str) -> None:
    assert "abcdef123456" not in redact(text)
    assert "***" in redact(text)


def test_ordinary_words_are_left_alone() -> None:
    text = "max_tokens: 12, tokens used by model sk8er at http://host:8000/v1"
    assert redact(text) == text


def test_exceptions_are_part_of_the_line_and_redacted() -> None:
    try:
        raise ValueError("Bearer abcdef123456")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "it %s", ("failed",), info)
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "it failed"
    assert "ValueError: Bearer ***" in line["exception"] or "***" in line["exception"]
    assert "abcdef123456" not in line["exception"]


def test_every_request_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = RequestLog(Metrics().log_lines_lost, file.fileno())
        for _ in range(3):
            log.note(ROW)
        log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3
    assert lines[0]["time"] == "1970-01-01T00:00:00Z"
    assert lines[0]["model"] == "a"
    assert lines[0]["usage"]["completion_tokens"] == 11


def test_a_reader_that_does_not_keep_up_loses_lines_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 2)
    monkeypatch.setattr(logs, "GATHER_S", 3600)
    metrics = Metrics()
    reading, writing = os.pipe()
    log = RequestLog(metrics.log_lines_lost, writing)
    for _ in range(5):
        log.note(ROW)
    assert value(metrics, "log_lines_lost_total") == 3
    log.close()
    os.close(writing)
    assert os.read(reading, 1 << 16).count(b"\n") == 2
    os.close(reading)


def test_a_log_that_nobody_reads_is_counted_as_lost() -> None:
    metrics = Metrics()
    reading, writing = os.pipe()
    os.close(reading)
    log = RequestLog(metrics.log_lines_lost, writing)
    log.note(ROW)
    log.close()
    os.close(writing)
    assert value(metrics, "log_lines_lost_total") == 1
