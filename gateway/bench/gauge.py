"""CPU time and memory of a process and its children, from Linux's ``/proc``."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_SHARED_IN_PARTS = re.compile(r"^Pss:\s+(\d+)", re.MULTILINE)
_OWN = re.compile(r"^Pss_Anon:\s+(\d+)", re.MULTILINE)


def family(pid: int) -> list[int]:
    """The process and everything that descends from it."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it ended meanwhile
            continue
    return found


def cpu_s(pid: int) -> float:
    """User and system time used so far; its grain is 10 ms."""
    ticks = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_A_SECOND


def memory_kib(pid: int) -> int:
    """Proportional set size: what is shared with other processes counts in parts."""
    return _sum_of(_SHARED_IN_PARTS, pid)


def own_memory_kib(pid: int) -> int:
    """What it allocated itself, which no other process can make smaller by sharing it."""
    return _sum_of(_OWN, pid)


def _sum_of(kind: re.Pattern[str], pid: int) -> int:
    total = 0
    for member in family(pid):
        try:
            found = kind.search(Path(f"/proc/{member}/smaps_rollup").read_text())
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total
