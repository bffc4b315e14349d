"""The ledger on disk: one row for every request that reached a decision, in SQLite.

Rows go into a bounded queue, a thread writes them in transactions, so that no request waits for a
disk. While the disk fails they wait and are tried again; what no longer fits is counted and told.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from gateway.errors import ConfigError
from gateway.ledger.accounting import LedgerRow

_log = logging.getLogger(__name__)

#: Rows that may wait for the disk.
MAX_WAITING = 20_000
_MAX_BATCH = 1_000
#: Time in which rows gather for one transaction, and between tries while the disk fails.
_GATHER_S = 0.1
_RETRY_S = 0.5
_BUSY_S = 5.0
#: Time that closing waits for the disk.
_CLOSE_S = 10.0
#: Name and type of each column; the first makes a row unique.
COLUMNS = {
    "decision_id": "TEXT PRIMARY KEY",
    "request_id": "TEXT NOT NULL",
    "at_s": "REAL NOT NULL",
    "key": "TEXT NOT NULL",
    "profile": "TEXT NOT NULL",
    "chosen_model": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "backend": "TEXT NOT NULL",
    "outcome": "TEXT NOT NULL",
    "error_code": "TEXT",
    "attempts": "INTEGER NOT NULL",
    "prompt_tokens": "INTEGER NOT NULL",
    "cached_tokens": "INTEGER NOT NULL",
    "completion_tokens": "INTEGER NOT NULL",
    "is_estimated": "INTEGER NOT NULL",
    "spent_tokens": "INTEGER NOT NULL",
    "cost_nanos": "INTEGER",
    "ttft_ms": "REAL",
    "duration_ms": "REAL NOT NULL",
    "resumes": "INTEGER NOT NULL DEFAULT 0",
}
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS requests ({", ".join(f'"{n}" {t}' for n, t in COLUMNS.items())});
CREATE INDEX IF NOT EXISTS requests_at ON requests (at_s);
"""
_INSERT = f"INSERT OR IGNORE INTO requests VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608


class LedgerBook:
    """Writes rows down; ``note`` returns at once. Several processes may share one file."""

    def __init__(self, path: Path, count_lost: Callable[[int], None]) -> None:
        """Open or make the file. Raises ConfigError when it cannot be written."""
        self._path = path
        self._count_lost = count_lost
        self._waiting: queue.Queue[LedgerRow | None] = queue.Queue(MAX_WAITING)
        self._in_trouble = False
        self._is_closing = False
        self._ends_by_s = float("inf")
        try:
            with closing(self._open()) as db:
                db.executescript(_SCHEMA)
                _add_columns(db)
        except sqlite3.Error as error:
            raise ConfigError(f"state.ledger: {path}: {error}") from error
        self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
        self._thread.start()

    def note(self, row: LedgerRow) -> None:
        """Hand a row over. Where too many wait already it is lost, counted and told in the log."""
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self._lose(1)

    def close(self) -> None:
        """Write what waits. Nothing may be noted afterwards."""
        self._ends_by_s = time.monotonic() + _CLOSE_S
        try:
            self._waiting.put(None, timeout=_CLOSE_S)
        except queue.Full:
            self._lose(self._waiting.qsize())
            return
        self._thread.join(_CLOSE_S + _BUSY_S)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_S)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        return db

    def _write_forever(self) -> None:
        is_open = True
        while is_open:
            rows, is_open = self._gather()
            while rows and not self._write(rows):
                if time.monotonic() >= self._ends_by_s:
                    self._lose(len(rows))
                    return
                time.sleep(_RETRY_S)

    def _gather(self) -> tuple[list[LedgerRow], bool]:
        """Wait for a row and take what else has come; False when the book was closed."""
        row = self._waiting.get()
        if row is not None:
            time.sleep(_GATHER_S)
        rows: list[LedgerRow] = []
        while row is not None:
            rows.append(row)
            if len(rows) == _MAX_BATCH:
                return rows, True
            try:
                row = self._waiting.get_nowait()
            except queue.Empty:
                return rows, True
        return rows, False

    def _write(self, rows: Sequence[LedgerRow]) -> bool:
        """Write all rows or none; a row that is there already stays as it is."""
        try:
            with closing(self._open()) as db, db:
                db.executescript(_SCHEMA)
                db.executemany(_INSERT, [_values(row) for row in rows])
        except sqlite3.Error as error:
            if not self._in_trouble:
                _log.error("%s: %s; rows wait", self._path, error)
            self._in_trouble = True
            return False
        if self._in_trouble:
            _log.warning("%s: rows are written again", self._path)
        self._in_trouble = False
        return True

    def _lose(self, rows: int) -> None:
        self._count_lost(rows)
        _log.error("%s: the disk does not keep up; %d rows are lost", self._path, rows)


def _add_columns(db: sqlite3.Connection) -> None:
    """Give a file of an earlier version the columns that came since, which all have defaults."""
    there = {name for _, name, *_ in db.execute("PRAGMA table_info(requests)")}
    for name, kind in COLUMNS.items():
        if name not in there:
            db.execute(f'ALTER TABLE requests ADD COLUMN "{name}" {kind}')


def _values(row: LedgerRow) -> tuple[object, ...]:
    usage = row.usage
    return (
        *(row.decision_id, row.request_id, row.at_s, row.principal, row.profile),
        *(row.chosen_model, row.model, row.backend, row.outcome, row.error_code, row.attempts),
        *(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.is_estimated),
        *(row.total_tokens - usage.total_tokens, row.cost_nanos, row.ttft_ms, row.duration_ms),
        row.resumes,
    )
