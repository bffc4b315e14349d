"""CPU time that tracing takes of one request: `python -m tests.benchmarks.tracing_cost`.

What a streamed request with one attempt notes on its way, what its export takes in the other thread,
and, where opentelemetry-sdk and its OTLP exporter are installed beside, the same spans made with them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.clock import SystemClock
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.otlp import Collector, TraceExporter, resource_of
from gateway.telemetry.request_spans import RequestSpans
from gateway.telemetry.tracing import Place, Trace, Tracer
from tests.benchmarks.metrics_cost import ROW

REQUESTS = 500
ROUNDS = 9
HEADERS = {"host": "gateway:8080", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
PLACES = {("m1", "b"): Place("vllm", 8000)}


class Kept:
    """Takes the last trace and does nothing with it."""

    trace: Trace

    def put(self, trace: Trace) -> None:
        self.trace = trace


def one_request(tracer: Tracer, headers: dict[str, str]) -> None:
    clock = time.perf_counter
    received_s = clock()
    trace = tracer.begin("chat", "/chat/completions", headers, "req_1", received_s, 300)
    trace.laps = [clock(), clock(), clock(), clock(), clock()]
    trace.note_plan("auto", True)
    trace.note_reserved()
    span = trace.begin_attempt("m1", "b", "m1")
    span.open()
    span.end()
    trace.note_row(ROW)
    tracer.end(trace, None, is_whole=True)


def cpu_us(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    for _ in range(REQUESTS):
        work()
    return (time.process_time() - began_s) / REQUESTS * 1e6


def off() -> None:
    """As many tests for None as a request meets where it is not traced."""
    trace = None
    for _ in range(9):
        if trace is not None:
            raise AssertionError


def sdk_cases(sample: list[dict[str, Any]]) -> dict[str, Callable[[], object]]:
    """The same spans with OpenTelemetry's SDK, its queue and its encoding."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import (  # type: ignore[import-not-found,unused-ignore]
        encode_spans,
    )
    from opentelemetry.sdk.trace import (  # type: ignore[import-not-found,unused-ignore]
        TracerProvider,
    )
    from opentelemetry.sdk.trace.export import (  # type: ignore[import-not-found,unused-ignore]
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
    from opentelemetry.trace import (  # type: ignore[import-not-found,unused-ignore]
        set_span_in_context,
    )

    class Nowhere(SpanExporter):  # type: ignore[misc,unused-ignore]
        def export(self, spans: Any) -> Any:
            made[:] = list(spans)[:count]
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None: ...

    made: list[Any] = []
    count = len(sample)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=2_000_000))
    tracer = provider.get_tracer("thalamus")
    told = [
        {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]} for span in sample
    ]

    def make() -> None:
        root = tracer.start_span(sample[0]["name"], attributes=told[0])
        context = set_span_in_context(root)
        for span, attributes in zip(sample[1:], told[1:], strict=True):
            tracer.start_span(span["name"], context=context, attributes=attributes).end()
        root.end()

    make()
    provider.force_flush()
    return {
        "opentelemetry-sdk: a request's own part": make,
        "opentelemetry-sdk: the export of one": lambda: encode_spans(made).SerializeToString(),
    }


def main() -> None:
    clock, kept, metrics = SystemClock(), Kept(), Metrics()
    followed = Tracer(kept, clock, sample_ratio=1, follow_callers=True)
    never = Tracer(kept, clock, sample_ratio=0, follow_callers=True)
    words = RequestSpans(PLACES).of
    one_request(followed, HEADERS)
    trace = kept.trace
    exporter = TraceExporter(
        Collector("http://127.0.0.1:4318", {}, 1),
        resource_of("thalamus", "0"),
        words,
        metrics.traces.labels("sent"),
        metrics.traces.labels("lost"),
    )
    bare = {"host": "gateway:8080"}
    cases: dict[str, Callable[[], object]] = {
        "off": off,
        "on, not sampled": lambda: one_request(never, bare),
        "on, sampled: a request's own part": lambda: one_request(followed, HEADERS),
        "on, sampled: the export of one": lambda: exporter.encode([trace]),
    }
    sample = msgspec.json.decode(msgspec.json.encode(words(trace)))
    try:
        cases |= sdk_cases(sample)
    except ImportError:
        print("opentelemetry-sdk is not installed beside: left out", file=sys.stderr)
    rounds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, work in cases.items():
            rounds[name].append(cpu_us(work))
    print(f"{len(sample)} spans, {len(exporter.encode([trace]))} bytes a trace")
    for name, taken in rounds.items():
        print(f"{name}: {statistics.median(taken):.2f} µs (least {min(taken):.2f})")


if __name__ == "__main__":
    main()
