"""The decision log: what it writes reads back to the same choice, whatever happens to the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.errors import ConfigError, LogUnreadable
from gateway.ledger import decision_log
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.decision_records import (
    DecisionRecord,
    FeedbackRecord,
    LogReading,
    LossRecord,
    encode_record,
    replay_decision,
    situation_of,
)
from gateway.upstream.usage import TokenUsage
from policies.select import select
from policies.types import Candidate, Infeasible, Needs, Policy, RoutingFlags, Situation
from tests.unit.policies.strategies import fine_catalogues, flag_sets, policies
from tests.unit.policies.strategies import needs as needs_of_requests


class Losses:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, count: int) -> None:
        self.count += count


def open_log(path: Path, losses: Losses | None = None) -> DecisionLog:
    return DecisionLog(path, SystemClock(), losses or Losses(), has_prompts=False)


def feedback(number: int) -> FeedbackRecord:
    return FeedbackRecord(at_s=1.5, request_id=f"r{number}", score=0.25)


def decided(
    candidates: list[Candidate],
    flags: RoutingFlags,
    needs: Needs,
    policy: Policy,
    draw: float,
) -> DecisionRecord:
    situation = Situation(tuple(candidates), flags, needs, draw)
    selection = select(situation, policy)
    decision = selection.decision
    return DecisionRecord(
        at_s=1.0,
        request_id="r",
        decision_id="d",
        policy_version="v",
        profile="best",
        candidates=tuple(candidates),
        flags=flags,
        needs=needs,
        draw=draw,
        stay_with=None,
        policy=policy,
        arm="live",
        propensity=selection.chances[decision.chosen],
        chances=selection.chances,
        shadow=None,
        chosen=decision.chosen,
        order=decision.order,
        reason=decision.reason,
        served=decision.chosen,
        backend="b",
        outcome="ok",
        error_code=None,
        attempts=1,
        usage=TokenUsage(1, 0, 1),
        cost_usd=None,
        ttft_ms=None,
        duration_ms=2.0,
    )


@settings(max_examples=300)
@given(fine_catalogues, flag_sets(), needs_of_requests, policies, st.floats(0, 1, exclude_max=True))
def test_replaying_the_log_gives_the_same_decision_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    candidates: list[Candidate],
    flags: RoutingFlags,
    needs: Needs,
    policy: Policy,
    draw: float,
) -> None:
    try:
        record = decided(candidates, flags, needs, policy, draw)
    except Infeasible:
        return
    path = tmp_path_factory.getbasetemp() / "one.jsonl"
    path.write_bytes(encode_record(record))
    (read,) = LogReading(path)
    assert read == record
    assert isinstance(read, DecisionRecord)
    # Every float of the plan, the objective's values included.
    assert replay_decision(read) == select(situation_of(record), policy).decision


def test_lines_come_in_order_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = open_log(path)
    for number in range(1000):
        log.append(feedback(number))
    log.close()
    assert list(LogReading(path)) == [feedback(number) for number in range(1000)]
    assert path.stat().st_mode & 0o077 == 0


def test_a_torn_last_line_is_skipped_and_told(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    whole = encode_record(feedback(1))
    path.write_bytes(whole + encode_record(feedback(2))[:-9])
    reading = LogReading(path)
    assert list(reading) == [feedback(1)]
    assert reading.torn_lines == [2]


def test_a_start_after_a_torn_line_begins_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(encode_record(feedback(1))[:-9])
    log = open_log(path)
    log.append(feedback(2))
    log.close()
    reading = LogReading(path)
    assert list(reading) == [feedback(2)]
    assert reading.torn_lines == [1]


def test_a_kill_leaves_whole_lines_and_at_most_one_torn(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tests.unit.gateway.ledger.test_decision_log import feedback, open_log
        log = open_log(Path(sys.argv[1]))
        print("writing", flush=True)
        number = 0
        while True:
            log.append(feedback(number))
            number += log._waiting.qsize() < 1000
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        while path.stat().st_size < 100_000:
            pass
        writer.send_signal(signal.SIGKILL)
    reading = LogReading(path)
    records = [r for r in reading if isinstance(r, FeedbackRecord)]
    assert len(records) > 100
    lines = path.read_bytes().count(b"\n")
    assert reading.torn_lines in ([], [lines + 1])


def test_renaming_the_file_starts_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = open_log(path)
    log.append(feedback(1))
    wait_for_size(path)
    path.rename(tmp_path / "log.jsonl.1")
    log.append(feedback(2))
    log.close()
    assert list(LogReading(tmp_path / "log.jsonl.1")) == [feedback(1)]
    assert list(LogReading(path)) == [feedback(2)]


def test_truncating_the_file_leaves_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = open_log(path)
    log.append(feedback(1))
    wait_for_size(path)
    os.truncate(path, 0)
    log.append(feedback(2))
    log.close()
    assert path.read_bytes() == encode_record(feedback(2))


def wait_for_size(path: Path) -> None:
    while not path.stat().st_size:
        pass


def test_a_disk_that_does_not_keep_up_loses_records_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody reads yet stands for the disk."""
    monkeypatch.setattr(decision_log, "MAX_WAITING", 3)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    losses = Losses()
    log = open_log(path, losses)
    big = FeedbackRecord(at_s=0, request_id="r", score=1, comment="x" * 200_000)
    for _ in range(50):
        log.append(big)
    assert losses.count > 0
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as pipe:
        lines = [pipe.readline() for _ in range(50 - losses.count)]
        log.append(feedback(1))
        told = [json.loads(pipe.readline()) for _ in range(2)]
        log.close()
    assert all(line.endswith(b"\n") for line in lines)
    assert {"kind": "lost", "count": losses.count} in [
        {key: line.get(key) for key in ("kind", "count")}
        for line in (*map(json.loads, lines), *told)
    ]


def test_a_line_that_is_no_record_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(encode_record(feedback(1)) + b'{"kind": "feedback", "score": "high"}\n')
    with pytest.raises(LogUnreadable, match=r"log\.jsonl, line 2: .*"):
        list(LogReading(path))


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(encode_record(FeedbackRecord(format=99, at_s=0, request_id="r", score=0)))
    with pytest.raises(LogUnreadable, match="line 1: format 99; this build reads"):
        list(LogReading(path))


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LogUnreadable, match="No such file"):
        list(LogReading(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"decision_log\.path: cannot append"):
        open_log(tmp_path / "no_folder" / "log.jsonl")


def test_losses_are_part_of_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(encode_record(LossRecord(at_s=1.0, count=3)))
    assert list(LogReading(path)) == [LossRecord(at_s=1.0, count=3)]
