"""The numbers behind the metrics: one flat array of float64 a process, summed over processes.

Adding to a number is one list operation without a lock. A lone process keeps a list, which is written
twice as fast; where several workers serve one port, each keeps its array in a file of its own, and
whoever is scraped adds the files up; what a worker that died had counted stays counted. It knows
nothing of Prometheus' format.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

#: Numbers that one process can hold; closed label sets need a few hundred.
CAPACITY = 65_536

Kind = Literal["counter", "gauge", "histogram"]
#: How a gauge of several processes becomes one: what each adds, or the worst that any sees.
Merge = Literal["sum", "max", "min"]
Key = tuple[str, tuple[str, ...]]
Numbers: TypeAlias = "list[float] | memoryview[float]"


class SeriesFull(RuntimeError):
    """A label takes values without end; that is a defect of the code that sets it."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name and labels, and for a histogram the upper bounds of its buckets."""

    name: str
    text: str
    kind: Kind
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: Merge = "sum"

    @property
    def width(self) -> int:
        """Numbers of one series: the buckets, the one above all bounds, and the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


class Counter:
    """A number that only grows."""

    __slots__ = ("_at", "_values")

    def __init__(self, values: Numbers, at: int) -> None:
        self._values = values
        self._at = at

    def inc(self, amount: float = 1.0) -> None:
        self._values[self._at] += amount


class Gauge(Counter):
    """A number that is set."""

    __slots__ = ()

    def set(self, value: float) -> None:
        self._values[self._at] = value


class Histogram:
    """Observations counted by the smallest bound that holds them."""

    __slots__ = ("_at", "_bounds", "_sum_at", "_values")

    def __init__(self, values: Numbers, at: int, bounds: tuple[float, ...]) -> None:
        self._values = values
        self._at = at
        self._bounds = bounds
        self._sum_at = at + len(bounds) + 1

    def observe(self, value: float) -> None:
        values = self._values
        values[self._at + bisect_left(self._bounds, value)] += 1.0
        values[self._sum_at] += value


class Store:
    """The array of this process, and in ``folder`` those of its siblings; None for a lone process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._used = 0
        self._places: dict[Key, tuple[int, int]] = {}
        self._names: Path | None = None
        self.values: Numbers = [0.0] * CAPACITY
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            stem = f"{os.getpid()}-{os.urandom(4).hex()}"
            self._names = folder / f"{stem}.names"
            with (folder / f"{stem}.values").open("w+b") as file:
                file.truncate(8 * CAPACITY)
                self.values = memoryview(mmap.mmap(file.fileno(), 8 * CAPACITY)).cast("d")

    def place(self, family: Family, labels: tuple[str, ...]) -> int:
        """Where the numbers of a series begin; a new one begins at zero.

        Raises SeriesFull when there is no room.
        """
        key = (family.name, labels)
        if key in self._places:
            return self._places[key][0]
        at = self._used
        if at + family.width > CAPACITY:
            raise SeriesFull(f"{family.name} has too many label values: {labels}")
        self._used += family.width
        self._places[key] = (at, family.width)
        if self._names is not None:
            line = msgspec.json.encode((family.name, labels, at, family.width)) + b"\n"
            with self._names.open("ab") as names:
                names.write(line)
        return at

    def processes(self) -> Iterator[tuple[bool, dict[Key, Sequence[float]]]]:
        """The series of every process that counted, and whether it still lives; this one first."""
        yield True, {k: self.values[at : at + n] for k, (at, n) in self._places.items()}
        if self._folder is None:
            return
        for names in sorted(self._folder.glob("*.names")):
            if names != self._names:
                yield _lives(int(names.name.partition("-")[0])), _read(names)


def _read(names: Path) -> dict[Key, Sequence[float]]:
    values = memoryview(names.with_suffix(".values").read_bytes()).cast("d")
    found: dict[Key, Sequence[float]] = {}
    for line in names.read_bytes().splitlines():
        try:
            name, labels, at, width = msgspec.json.decode(
                line, type=tuple[str, tuple[str, ...], int, int]
            )
        except msgspec.DecodeError:  # being written
            break
        found[name, labels] = values[at : at + width]
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def merged(
    families: dict[str, Family], store: Store
) -> dict[str, dict[tuple[str, ...], list[float]]]:
    """Add up all processes: for every metric the numbers of each label set.

    Counters and histograms of dead processes count on; their gauges are gone.
    """
    total: dict[str, dict[tuple[str, ...], list[float]]] = {name: {} for name in families}
    for lives, series in store.processes():
        for (name, labels), numbers in series.items():
            family = families.get(name)
            if family is None or (family.kind == "gauge" and not lives):
                continue
            known = total[name].get(labels)
            if known is None:
                total[name][labels] = list(numbers)
            elif family.kind == "gauge" and family.merge != "sum":
                pick = max if family.merge == "max" else min
                total[name][labels] = [pick(known[0], numbers[0])]
            else:
                total[name][labels] = [a + b for a, b in zip(known, numbers, strict=True)]
    return total
