"""Keys and what was spent with them, in one SQLite file that commands and the gateway share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from gateway.errors import ConfigError
from gateway.tenancy.keys import Key, KeyPolicy

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, created_s REAL NOT NULL,
  expires_s REAL, revoked_s REAL, policy TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spent (
  key_id TEXT NOT NULL, day TEXT NOT NULL, nanos INTEGER NOT NULL, PRIMARY KEY (key_id, day));
"""
#: How long a writer waits for another one.
_BUSY_S = 5.0
#: By key and UTC day (``2026-11-24``): integer nano-dollars.
Spent = Mapping[tuple[str, str], int]


class KeyFile:
    """Opens the file anew for every call, so that any thread may make one. Raises ConfigError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)

    def add(self, key: Key) -> None:
        with self._open() as db:
            db.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    key.id,
                    key.name,
                    key.digest,
                    key.created_s,
                    key.expires_s,
                    key.revoked_s,
                    msgspec.json.encode(key.policy).decode(),
                ),
            )

    def revoke(self, key_id: str, now_s: float) -> bool:
        """Revoke a key for ever; False when there is none. The first time of it is kept."""
        with self._open() as db:
            found = db.execute(
                "UPDATE keys SET revoked_s = coalesce(revoked_s, ?) WHERE id = ?", (now_s, key_id)
            )
            return found.rowcount == 1

    def read(self) -> list[Key]:
        """All keys, the oldest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT id, name, digest, created_s, expires_s, revoked_s, policy"
                " FROM keys ORDER BY created_s, id"
            ).fetchall()
        return [
            Key(key_id, name, digest, created_s, expires_s, revoked_s, self._policy(key_id, policy))
            for key_id, name, digest, created_s, expires_s, revoked_s, policy in rows
        ]

    def spent(self, month: str) -> dict[tuple[str, str], int]:
        """What was spent in a month (``2026-11``), by key and day, in nano-dollars."""
        with self._open() as db:
            rows = db.execute(
                "SELECT key_id, day, nanos FROM spent WHERE day LIKE ?", (f"{month}-%",)
            ).fetchall()
        return {(key_id, day): nanos for key_id, day, nanos in rows}

    def add_spent(self, spent: Spent) -> None:
        """Add what was spent since the last call; all of it or nothing."""
        with self._open() as db:
            db.executemany(
                "INSERT INTO spent VALUES (?, ?, ?)"
                " ON CONFLICT (key_id, day) DO UPDATE SET nanos = nanos + excluded.nanos",
                [(key_id, day, nanos) for (key_id, day), nanos in spent.items()],
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_S)) as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.executescript(_SCHEMA)
                with db:  # commits, or rolls back what raised
                    yield db
        except sqlite3.Error as error:
            raise ConfigError(f"auth.keys: {self.path}: {error}") from error

    def _policy(self, key_id: str, text: str) -> KeyPolicy:
        try:
            return msgspec.json.decode(text, type=KeyPolicy)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"auth.keys: {self.path}: policy of {key_id}: {error}") from error
