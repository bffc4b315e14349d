"""Declaring metrics, with labels and without. It says what there is; series.py keeps the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from gateway.telemetry.series import Counter, Family, Gauge, Histogram, Kind, Merge, Store, merged

T = TypeVar("T", Counter, Gauge, Histogram)


class Labelled(Generic[T]):
    """A metric with labels: ``labels(…)`` gives the series of one set of values."""

    def __init__(self, names: tuple[str, ...], make: Callable[[tuple[str, ...]], T]) -> None:
        self._names = names
        self._make: Callable[[tuple[str, ...]], T] = make
        self._series: dict[tuple[str, ...], T] = {}

    def labels(self, *values: str) -> T:
        """The series with these values, in the order of the metric's labels."""
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._names):
                raise ValueError(f"{self._names} want as many values, not {values}")
            series = self._series[values] = self._make(values)
        return series

    def __iter__(self) -> Iterator[T]:
        return iter(self._series.values())


class Registry:
    """Declares metrics under the common prefix and gives their numbers over all processes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.families: dict[str, Family] = {}

    def counter(self, name: str, text: str) -> Counter:
        return Counter(self._store.values, self._place(self._declare(name, text, "counter")))

    def counters(self, name: str, text: str, *labels: str) -> Labelled[Counter]:
        family = self._declare(name, text, "counter", labels)
        return Labelled(labels, lambda v: Counter(self._store.values, self._place(family, v)))

    def gauge(self, name: str, text: str, merge: Merge = "sum") -> Gauge:
        family = self._declare(name, text, "gauge", merge=merge)
        return Gauge(self._store.values, self._place(family))

    def gauges(self, name: str, text: str, *labels: str, merge: Merge = "sum") -> Labelled[Gauge]:
        family = self._declare(name, text, "gauge", labels, merge=merge)
        return Labelled(labels, lambda v: Gauge(self._store.values, self._place(family, v)))

    def histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        family = self._declare(name, text, "histogram", bounds=bounds)
        return Histogram(self._store.values, self._place(family), bounds)

    def histograms(
        self, name: str, text: str, bounds: tuple[float, ...], *labels: str
    ) -> Labelled[Histogram]:
        family = self._declare(name, text, "histogram", labels, bounds)
        return Labelled(
            labels, lambda v: Histogram(self._store.values, self._place(family, v), bounds)
        )

    def _declare(
        self,
        name: str,
        text: str,
        kind: Kind,
        labels: tuple[str, ...] = (),
        bounds: tuple[float, ...] = (),
        merge: Merge = "sum",
    ) -> Family:
        family = Family(f"thalamus_{name}", text, kind, labels, bounds, merge)
        self.families[family.name] = family
        return family

    def _place(self, family: Family, labels: tuple[str, ...] = ()) -> int:
        return self._store.place(family, labels)

    def series(self) -> Iterator[tuple[Family, Mapping[tuple[str, ...], Sequence[float]]]]:
        """Every metric with the numbers of each of its label sets."""
        found = merged(self.families, self._store)
        for name, family in self.families.items():
            yield family, found[name]
