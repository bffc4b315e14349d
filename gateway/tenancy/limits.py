"""Admission: how many requests may be in flight. A permit is given back exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded
from gateway.telemetry.metrics import Metrics


class Admission:
    def __init__(self, max_inflight: int, metrics: Metrics) -> None:
        self._max_inflight = max_inflight
        self._metrics = metrics
        self.inflight = 0

    @contextmanager
    def permit(self) -> Iterator[None]:
        """Hold one place for the duration of the block. Raises Overloaded when none is free."""
        if self.inflight >= self._max_inflight:
            raise Overloaded(f"{self._max_inflight} requests are in flight, which is the limit")
        self.inflight += 1
        self._metrics.inflight.set(self.inflight)
        try:
            yield
        finally:
            self.inflight -= 1
            self._metrics.inflight.set(self.inflight)
