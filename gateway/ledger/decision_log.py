"""The decision log's writer: records go into a queue, a thread puts them into the file.

A line is written whole or not at all as far as the operating system allows: one ``write`` for whole
lines, appended, so that several processes may share a file. What a kill cuts short is closed by the
next start and skipped by the reader. A full disk or a slow one loses records, never requests.
"""

from __future__ import annotations

import datetime
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from gateway import settings
from gateway.clock import Clock
from gateway.decision.decide import RoutedDecision
from gateway.decision.features import PromptFeatures
from gateway.errors import ConfigError
from gateway.ledger.accounting import LedgerRow
from gateway.ledger.decision_records import LossRecord, Record, decision_record, encode_record
from gateway.ledger.log_days import forget_before, set_aside
from gateway.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

#: Records that may wait for the disk: some 20 MB at ten candidates each.
MAX_WAITING = 5_000
#: Bytes gathered into one write.
_MAX_BATCH_BYTES = 1 << 20
#: Time that closing waits for the disk.
_CLOSE_S = 10.0
#: How often it is looked whether a day is over where nothing is written.
_LOOK_S = 60.0


class DecisionLog:
    """Appends records to a file; ``note`` and ``append`` return at once, whatever the disk does.

    ``has_prompts`` says whether prompts are written; ``count_lost`` is told how many records were
    given up. The records wait in a bounded queue, and a kill of the process loses what waits there,
    as a rule the last few milliseconds. With ``keep_days`` every day has a file of its own, which is
    removed that many days after it is over.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        count_lost: Callable[[int], None],
        *,
        has_prompts: bool,
        keep_days: int | None = None,
    ) -> None:
        """Open the file. Raises ConfigError when it cannot be appended to."""
        self._path = path
        self._clock = clock
        self._count_lost = count_lost
        self._has_prompts = has_prompts
        self._keep_days = keep_days
        self._day: datetime.date | None = None
        self._waiting: queue.Queue[Record | None] = queue.Queue(MAX_WAITING)
        # Each is written by one thread alone: the event loop's, the writer's, the writer's.
        self._refused = 0
        self._failed = 0
        self._told = 0
        self._is_torn = False
        try:
            self._file = _open(path)
        except OSError as error:
            raise ConfigError(
                f"decision_log.path: cannot append to {path}: {error.strerror}"
            ) from error
        self._thread = threading.Thread(
            target=self._write_forever, name="decision-log", daemon=True
        )
        self._thread.start()

    def note(self, decision: RoutedDecision, features: PromptFeatures, row: LedgerRow) -> None:
        """Append one finished request."""
        prompt = features.ask if self._has_prompts else None
        self.append(decision_record(decision, row, prompt, features.max_output_tokens))

    def append(self, record: Record) -> None:
        """Hand a record over. Where too many wait already it is lost, counted and told in the log."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._refused += 1
            self._count_lost(1)

    def close(self) -> None:
        """Write what waits and close the file. Nothing may be appended afterwards."""
        try:
            self._waiting.put(None, timeout=_CLOSE_S)
        except queue.Full:
            _log.error("%s: the disk does not answer; records are lost", self._path)
            return
        self._thread.join(_CLOSE_S)

    def _write_forever(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            self._begin_day()
            if batch:
                self._write(batch)
        os.close(self._file)

    def _gather(self) -> tuple[list[bytes], bool]:
        """Wait for a record and take what else has come; False when the log was closed."""
        try:
            record = self._waiting.get(timeout=None if self._keep_days is None else _LOOK_S)
        except queue.Empty:
            return [], True
        lines: list[bytes] = []
        size = 0
        while record is not None:
            lines.append(encode_record(record))
            size += len(lines[-1])
            if size > _MAX_BATCH_BYTES:
                return lines, True
            try:
                record = self._waiting.get_nowait()
            except queue.Empty:
                return lines, True
        return lines, False

    def _write(self, lines: list[bytes]) -> None:
        records = len(lines)
        lost = self._refused + self._failed
        if lost > self._told:
            loss = LossRecord(at_s=self._clock.wall_s(), count=lost - self._told)
            lines.append(encode_record(loss))
        data = (b"\n" if self._is_torn else b"") + b"".join(lines)
        try:
            self._follow_rotation()
            written = os.write(self._file, data)
            self._is_torn = written < len(data)
            while written < len(data):  # the disk is nearly full
                written += os.write(self._file, data[written:])
            self._is_torn = False
            self._told = lost
        except OSError as error:
            _log.error("%s: %s; %d records are lost", self._path, error.strerror, records)
            self._failed += records
            self._count_lost(records)

    def _begin_day(self) -> None:
        """On the first look of a day, set the file of another aside and forget old ones."""
        if self._keep_days is None:
            return
        today = datetime.datetime.fromtimestamp(self._clock.wall_s(), datetime.UTC).date()
        if today == self._day:
            return
        try:
            set_aside(self._path, today)
            forget_before(self._path, today - datetime.timedelta(days=self._keep_days))
            self._day = today
        except OSError as error:
            _log.error("%s: old days stay: %s", self._path, error.strerror)

    def _follow_rotation(self) -> None:
        """Go on in a new file when the old one was renamed or removed."""
        try:
            there = os.stat(self._path)
            ours = os.fstat(self._file)
            if (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev):
                return
        except FileNotFoundError:
            pass
        renewed = _open(self._path)
        os.close(self._file)
        self._file = renewed


def open_decision_log(
    section: settings.DecisionLog | None, clock: Clock, metrics: Metrics
) -> DecisionLog | None:
    """Open the log that the configuration asks for; None when it asks for none.

    Raises ConfigError when the file cannot be appended to.
    """
    if section is None:
        return None
    lost = metrics.decisions_unlogged.inc
    return DecisionLog(
        section.path, clock, lost, has_prompts=section.prompts, keep_days=section.keep_days
    )


def _open(path: Path) -> int:
    """Open for appending, readable by its owner alone, and end a line that a kill left open."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
    return file
