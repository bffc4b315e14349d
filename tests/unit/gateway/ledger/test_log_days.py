"""A log that keeps days: every day a file, old ones gone, nothing lost between two processes."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.decision_records import FeedbackRecord, LogReading
from gateway.ledger.log_days import forget_before, log_files, set_aside

DAY_S = 86_400.0
TODAY = datetime.date(2026, 11, 25)
TODAY_S = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC).timestamp()


class Calendar:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, wall_s: float) -> None:
        self.at_s = wall_s

    def wall_s(self) -> float:
        return self.at_s

    def monotonic_s(self) -> float:
        return self.at_s


def written(path: Path, text: str, days_ago: int) -> None:
    path.write_text(text)
    at_s = TODAY_S - days_ago * DAY_S
    os.utime(path, (at_s, at_s))


def test_what_was_written_before_today_is_set_aside_under_its_day(tmp_path: Path) -> None:
    log = tmp_path / "d.jsonl"
    written(log, "old", days_ago=2)
    set_aside(log, TODAY)
    assert not log.exists()
    aside = tmp_path / "d.jsonl.2026-11-23"
    assert aside.read_text() == "old"
    set_aside(log, TODAY)  # nothing there
    written(log, "of today", days_ago=0)
    set_aside(log, TODAY)
    assert log.read_text() == "of today"
    assert log_files(log) == [aside, log]


def test_a_second_file_of_a_day_never_replaces_the_first(tmp_path: Path) -> None:
    log = tmp_path / "d.jsonl"
    for text in ("first", "second"):
        written(log, text, days_ago=1)
        set_aside(log, TODAY)
    assert [file.read_text() for file in log_files(log)] == ["first", "second"]


def test_a_kill_between_link_and_unlink_leaves_no_record_twice(tmp_path: Path) -> None:
    log = tmp_path / "d.jsonl"
    written(log, "old", days_ago=1)
    (tmp_path / "d.jsonl.2026-11-24").hardlink_to(log)
    set_aside(log, TODAY)
    assert [file.read_text() for file in log_files(log)] == ["old"]


def test_only_old_days_of_this_log_are_forgotten(tmp_path: Path) -> None:
    log = tmp_path / "d.jsonl"
    days = ("2026-11-20", "2026-11-21", "2026-11-21.1", "gz")
    names = [*(f"d.jsonl.{day}" for day in days), "d.jsonl", "other.jsonl.2026-11-01"]
    for name in names:
        (tmp_path / name).write_text("x")
    forget_before(log, datetime.date(2026, 11, 21))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(set(names) - {"d.jsonl.2026-11-20"})


def feedback(name: str) -> FeedbackRecord:
    return FeedbackRecord(at_s=1.0, request_id=name, score=0.5)


def test_a_running_log_begins_a_file_a_day_and_forgets(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    written(tmp_path / "d.jsonl.2026-10-01", "", days_ago=55)
    written(path, "", days_ago=1)
    clock = Calendar(TODAY_S)
    log = DecisionLog(path, clock, lambda _: None, has_prompts=True, keep_days=7)
    log.append(feedback("today"))
    log.close()
    assert [p.name for p in log_files(path)] == ["d.jsonl.2026-11-24", "d.jsonl"]

    # Another process finds a day later that the day is over; this one follows it.
    os.utime(path, (TODAY_S, TODAY_S))
    clock.at_s += DAY_S
    one = DecisionLog(path, clock, lambda _: None, has_prompts=True, keep_days=7)
    two = DecisionLog(path, clock, lambda _: None, has_prompts=True, keep_days=7)
    for number in range(50):
        (one, two)[number % 2].append(feedback(f"r{number}"))
    one.close()
    two.close()
    found = [
        record.request_id
        for file in log_files(path)
        for record in LogReading(file)
        if isinstance(record, FeedbackRecord)
    ]
    assert sorted(found) == sorted(["today", *(f"r{n}" for n in range(50))])
    assert (tmp_path / "d.jsonl.2026-11-25").exists()
