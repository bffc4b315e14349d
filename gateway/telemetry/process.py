"""What a worker process uses: memory, processor, files, and how late its event loop is."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.telemetry.metrics import Metrics

EVERY_S = 1.0
_PAGE_BYTES = resource.getpagesize()
_STATM = Path("/proc/self/statm")
_OPEN_FILES = Path("/proc/self/fd")


class ProcessWatch:
    """Publishes once a second while it runs; on systems without /proc, what they can tell.

    ``publish_more`` brings gauges of others up to date: a sibling that is scraped reads them.
    """

    def __init__(self, metrics: Metrics, publish_more: Callable[[], None] = lambda: None) -> None:
        self._metrics = metrics
        self.publish_more = publish_more
        self._cpu_s = 0.0
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._metrics.workers.set(1)
        self._publish()
        self._wait()

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
        for gauge in (
            self._metrics.workers,
            self._metrics.resident_bytes,
            self._metrics.open_files,
        ):
            gauge.set(0)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + EVERY_S
        self._next = loop.call_at(due_s, self._tick, due_s)

    def _tick(self, due_s: float) -> None:
        late_s = asyncio.get_running_loop().time() - due_s
        self._metrics.loop_lag_seconds.observe(max(0.0, late_s))
        self._publish()
        self._wait()

    def _publish(self) -> None:
        self.publish_more()
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime
        self._metrics.cpu_seconds.inc(cpu_s - self._cpu_s)
        self._cpu_s = cpu_s
        with suppress(OSError):  # there is no /proc, or no file left to look with
            resident_pages = int(_STATM.read_text().split()[1])
            self._metrics.resident_bytes.set(resident_pages * _PAGE_BYTES)
            self._metrics.open_files.set(len(os.listdir(_OPEN_FILES)))
