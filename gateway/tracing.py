"""Opening the traces of one configuration; imported only where it has a section ``tracing``."""

from __future__ import annotations

from gateway import __version__
from gateway.clock import Clock
from gateway.settings import Config, Tracing
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.otlp import Collector, TraceExporter, resource_of
from gateway.telemetry.request_spans import RequestSpans
from gateway.telemetry.tracing import Place, Tracer


def open_tracer(
    config: Config, tracing: Tracing, clock: Clock, metrics: Metrics, before: TraceExporter | None
) -> tuple[Tracer, TraceExporter]:
    """Who traces by this configuration; ``before`` goes on exporting where nothing of that changed."""
    words = RequestSpans(
        {
            (name, backend.label): Place(backend.url.host or "", backend.url.port or 0)
            for name, model in config.models.items()
            for backend in model.backends
        }
    ).of
    if before is not None:
        before.words = words
        exporter = before
    else:
        headers = {name: secret.get_secret_value() for name, secret in tracing.headers.items()}
        exporter = TraceExporter(
            Collector(str(tracing.endpoint), headers, tracing.timeout_s),
            resource_of(tracing.service_name, __version__),
            words,
            metrics.traces.labels("sent"),
            metrics.traces.labels("lost"),
        )
    tracer = Tracer(
        exporter,
        clock,
        sample_ratio=tracing.sample_ratio,
        follow_callers=tracing.follow_callers,
    )
    return tracer, exporter
