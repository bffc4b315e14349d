"""What was used, added up from the ledger on disk."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from gateway.errors import ConfigError

NANOS_PER_USD = 1_000_000_000
#: What rows can be added up by, and how SQLite says it.
GROUPS = {
    "key": "key",
    "model": "model",
    "backend": "backend",
    "profile": "profile",
    "outcome": "outcome",
    "day": "strftime('%Y-%m-%d', at_s, 'unixepoch')",
    "month": "strftime('%Y-%m', at_s, 'unixepoch')",
}


class UsageLine(msgspec.Struct, frozen=True):
    """Totals of one group; ``cost_usd`` is of the requests whose price is known."""

    group: dict[str, str]
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    spent_tokens: int
    estimated: int
    cost_usd: float


def usage_of(
    path: Path,
    by: Sequence[str],
    since: datetime.date | None = None,
    until: datetime.date | None = None,
) -> list[UsageLine]:
    """Add up the rows of a ledger by groups, UTC days from ``since`` to ``until``, both included.

    Raises ConfigError when there is no such ledger.
    """
    names = ", ".join(GROUPS[name] for name in by)
    low = -1e18 if since is None else _start_s(since)
    high = 1e18 if until is None else _start_s(until + datetime.timedelta(days=1))
    query = f"""
        SELECT count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
               sum(spent_tokens), sum(is_estimated), total(cost_nanos) {"," if names else ""} {names}
        FROM requests WHERE at_s >= ? AND at_s < ?
        {f"GROUP BY {names} ORDER BY {names}" if names else ""}
    """  # noqa: S608 - the names are ours
    if not path.is_file():
        raise ConfigError(f"state.ledger: there is no ledger at {path}")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            rows = db.execute(query, (low, high)).fetchall()
    except sqlite3.Error as error:
        raise ConfigError(f"state.ledger: {path}: {error}") from error
    return [_line(by, row) for row in rows if row[0]]


def _line(by: Sequence[str], row: Sequence[Any]) -> UsageLine:
    requests, prompt, cached, completion, spent, estimated, cost_nanos, *group = row
    return UsageLine(
        group=dict(zip(by, group, strict=True)),
        requests=requests,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        spent_tokens=spent,
        estimated=estimated,
        cost_usd=cost_nanos / NANOS_PER_USD,
    )


def print_usage(lines: Sequence[UsageLine], by: Sequence[str]) -> None:
    """Print the totals as a table."""
    table = Table()
    for name in by:
        table.add_column(name)
    for name in ("requests", "prompt", "of it cached", "completion", "beside", "USD"):
        table.add_column(name, justify="right")
    for line in lines:
        counts = (line.requests, line.prompt_tokens, line.cached_tokens, line.completion_tokens)
        numbers = [f"{count:,}" for count in (*counts, line.spent_tokens)]
        table.add_row(*line.group.values(), *numbers, f"{line.cost_usd:.6f}")
    Console().print(table)


def _start_s(day: datetime.date) -> float:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()
