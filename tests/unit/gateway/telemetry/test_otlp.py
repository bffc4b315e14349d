"""The exporter before a collector that refuses, stalls, is away and comes back."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.telemetry import otlp
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.otlp import Collector, TraceExporter, resource_of
from gateway.telemetry.request_spans import RequestSpans
from gateway.telemetry.tracing import Trace, Tracer
from tests.fakes.collector import FakeCollector, fake_collector
from tests.unit.gateway.telemetry.test_series import value


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "GATHER_S", 0.01)
    monkeypatch.setattr(otlp, "FIRST_PAUSE_S", 0.05)


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    with fake_collector() as seen:
        yield seen


class Bench:
    """An exporter with its counts."""

    def __init__(self, url: str, timeout_s: float = 2.0) -> None:
        self.metrics = Metrics()
        self.exporter = TraceExporter(
            Collector(url, {}, timeout_s),
            resource_of("thalamus", "1"),
            RequestSpans({}).of,
            self.metrics.traces.labels("sent"),
            self.metrics.traces.labels("lost"),
        )
        self.tracer = Tracer(self.exporter, SystemClock(), sample_ratio=1, follow_callers=True)

    def trace(self) -> Trace:
        received_s = time.perf_counter()
        trace = self.tracer.begin("chat", "/chat/completions", {}, "req_1", received_s, 10)
        self.tracer.end(trace, None, is_whole=True)
        return trace

    def count(self, result: str) -> float | None:
        return value(self.metrics, "traces_total", result=result)


def soon(holds: Callable[[], bool], limit_s: float = 5.0) -> None:
    ends_by_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < ends_by_s
        time.sleep(0.01)


@pytest.mark.parametrize("suffix", ["", "/", "/v1/traces", "/otlp"])
def test_the_path_of_traces_is_added_once(collector: FakeCollector, suffix: str) -> None:
    bench = Bench(collector.url + suffix)
    bench.trace()
    bench.exporter.close()
    assert collector.paths == ["/otlp/v1/traces" if suffix == "/otlp" else "/v1/traces"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_who_is_busy_is_asked_again(collector: FakeCollector, status: int) -> None:
    collector.answers = [(status, {}, b""), (status, {"retry-after": "0"}, b"")]
    bench = Bench(collector.url)
    bench.trace()
    soon(lambda: bench.count("sent") == 1)
    bench.exporter.close()
    assert len(collector.paths) == 3
    assert bench.count("lost") == 0


def test_who_asks_for_time_gets_it(collector: FakeCollector) -> None:
    collector.answers = [(503, {"retry-after": "1"}, b"")]
    bench = Bench(collector.url)
    began_s = time.monotonic()
    bench.trace()
    soon(lambda: bench.count("sent") == 1)
    assert time.monotonic() - began_s > 0.9
    bench.exporter.close()


@pytest.mark.parametrize(
    "answer",
    [
        (400, {}, b"no"),
        (404, {}, b""),
        (302, {"location": "http://elsewhere/"}, b""),
        (200, {}, b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}'),
    ],
)
def test_what_is_refused_is_lost_counted_and_told_once(
    collector: FakeCollector, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answers = [answer, answer]
    bench = Bench(collector.url)
    with caplog.at_level(logging.INFO, "gateway.telemetry.otlp"):
        for lost in (1, 2):
            bench.trace()
            soon(lambda lost=lost: bench.count("lost") == lost)  # type: ignore[misc]
        bench.trace()
        soon(lambda: bench.count("sent") == 1)
    bench.exporter.close()
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert "do not reach" in told[0]
    assert "again" in told[1]


@pytest.mark.parametrize("body", [b"", b"OK", b"{}", b'{"partialSuccess": {}}', b"\xff"])
def test_any_words_of_success_are_success(collector: FakeCollector, body: bytes) -> None:
    collector.answers = [(200, {}, body)]
    bench = Bench(collector.url)
    bench.trace()
    soon(lambda: bench.count("sent") == 1)
    bench.exporter.close()


def test_a_full_queue_drops_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MAX_WAITING", 3)
    monkeypatch.setattr(otlp, "GATHER_S", 3600)
    with fake_collector() as collector:
        bench = Bench(collector.url)
        for _ in range(10):
            bench.trace()
        assert bench.count("lost") == 7
        bench.exporter.close()  # what waits is sent all the same
        assert bench.count("sent") == len(collector.spans) == 3


def test_a_collector_that_comes_late_gets_what_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    bench = Bench(f"http://127.0.0.1:{port}")
    bench.trace()
    time.sleep(0.1)
    assert (bench.count("sent"), bench.count("lost")) == (0, 0)
    with fake_collector(port) as collector:
        soon(lambda: len(collector.spans) == 1)
        bench.exporter.close()


def test_the_end_waits_for_a_dead_collector_no_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        bench = Bench(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        for _ in range(3 * otlp.MAX_BATCH):
            bench.trace()
        began_s = time.monotonic()
        bench.exporter.close()
        assert time.monotonic() - began_s < 1.5
        soon(lambda: bench.count("lost") == 3 * otlp.MAX_BATCH)


def test_every_span_tells_which_process_made_it(collector: FakeCollector) -> None:
    bench = Bench(collector.url)
    trace = bench.trace()
    bench.exporter.close()
    (span,) = [s for s in collector.spans if s.span_id == trace.span_id]
    assert span.resource["service.name"] == "thalamus"
    assert span.resource["process.pid"] > 0
    assert abs(span.raw.start_time_unix_nano / 1e9 - time.time()) < 30
