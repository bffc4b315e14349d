"""What is known of a backend, as metrics."""

from __future__ import annotations

from dataclasses import asdict

from gateway.telemetry.metrics import Metrics
from gateway.upstream.backend import BackendHandle
from gateway.upstream.signals import LOAD_SIGNALS, Signals


def publish_backend(metrics: Metrics, model: str, backend: BackendHandle, now_s: float) -> None:
    """Bring the gauges of one backend up to date."""
    health = backend.health
    metrics.backend_up.labels(model, backend.name).set(health.is_up is True)
    metrics.breaker_state.labels(model, backend.name).set(health.is_paused)
    metrics.backend_inflight.labels(model, backend.name).set(health.inflight)
    if health.usage_drift is not None:
        metrics.signals.usage_drift.labels(backend.name).set(health.usage_drift)
    if health.signals is not None:
        _publish_signals(metrics, (model, backend.name), health.signals)
        age_s = now_s - health.signals_at_s
        metrics.signals.age_seconds.labels(model, backend.name).set(age_s)


def _publish_signals(metrics: Metrics, labels: tuple[str, str], signals: Signals) -> None:
    gauges = metrics.signals
    for name in LOAD_SIGNALS:
        gauges.missing.labels(*labels, name).set(name in signals.missing)
    if signals.running is not None:
        gauges.load.labels(*labels, "running").set(signals.running)
    if signals.kv_usage is not None:
        gauges.load.labels(*labels, "kv_usage").set(signals.kv_usage)
    if signals.waiting is not None:
        gauges.queue_depth.labels(*labels).set(signals.waiting)
    for kind, total in signals.totals.items():
        gauges.totals.labels(*labels, kind).set(total)
    if signals.adapters is not None:
        gauges.load.labels(*labels, "adapters").set(len(signals.adapters.running))
    if signals.experts is not None:
        for kind, value in asdict(signals.experts).items():
            gauges.experts.labels(*labels, kind).set(value)
