"""A log in files of a day each, so that old ones can be forgotten whole.

The file that is written keeps its name; what was last written on an earlier day is set aside as
``NAME.YYYY-MM-DD``. Several processes may share a log: one of them sets the file aside, and the
others notice at their next write that it is another one.
"""

from __future__ import annotations

import datetime
import itertools
import re
from contextlib import suppress
from pathlib import Path

_ASIDE = re.compile(r"\.(\d{4}-\d\d-\d\d)(?:\.(\d+))?")


def log_files(path: Path) -> list[Path]:
    """The days that were set aside, the oldest first, and the file that is written, where it is."""
    aside = sorted((day, number, file) for file, day, number in _aside(path))
    return [*(file for _, _, file in aside), *([path] if path.exists() else [])]


def set_aside(path: Path, today: datetime.date) -> None:
    """Rename a file that was last written before ``today``. Raises OSError."""
    try:
        day = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).date()
        if day >= today:
            return
        for number in itertools.count():
            aside = path.with_name(f"{path.name}.{day}{f'.{number}' if number else ''}")
            try:
                aside.hardlink_to(path)  # unlike a rename it never replaces another's file
            except FileExistsError:
                if not aside.samefile(path):
                    continue
            path.unlink()
            return
    except FileNotFoundError:
        return  # another process was faster


def forget_before(path: Path, first_kept: datetime.date) -> None:
    """Remove the days set aside before ``first_kept``. Raises OSError."""
    for file, day, _ in _aside(path):
        if day < first_kept.isoformat():
            with suppress(FileNotFoundError):
                file.unlink()


def _aside(path: Path) -> list[tuple[Path, str, int]]:
    found = []
    for file in path.parent.glob(f"{path.name}.*"):
        match = _ASIDE.fullmatch(file.name.removeprefix(path.name))
        if match is not None:
            found.append((file, match[1], int(match[2] or 0)))
    return found
