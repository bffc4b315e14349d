"""Every metric of the gateway. The only file that imports prometheus_client.

Labels come from closed sets: model, backend, profile, reason, stage, outcome; never a key or a user.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_STAGE_BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5)
_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_GAP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_QUALITY_BUCKETS = tuple(i / 20 for i in range(1, 21))


class Metrics:
    """One registry and the metrics in it; a process has one, a test may have many."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"thalamus_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"thalamus_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"thalamus_{name}", text, labels, buckets=buckets, registry=registry)

        self.requests = counter(
            "requests_total", "Requests answered", "model", "profile", "outcome"
        )
        self.decision_seconds = histogram(
            "decision_seconds", "Time of each step of a decision", _STAGE_BUCKETS, "stage"
        )
        self.overhead_seconds = histogram(
            "overhead_seconds", "Gateway time before the backend is asked", _STAGE_BUCKETS
        )
        self.ttft_seconds = histogram(
            "ttft_seconds",
            "Time to the first token, as the client sees it",
            _LATENCY_BUCKETS,
            "model",
        )
        self.inter_token_seconds = histogram(
            "inter_token_seconds", "Mean time per token after the first", _GAP_BUCKETS, "model"
        )
        self.e2e_seconds = histogram(
            "e2e_seconds", "Whole request, as the client sees it", _LATENCY_BUCKETS, "model"
        )
        self.upstream_attempts = counter(
            "upstream_attempts_total", "Tries at a backend", "backend", "outcome"
        )
        self.fallbacks = counter(
            "fallbacks_total", "Requests answered by another model than chosen first", "model"
        )
        self.stream_aborts = counter("stream_aborts_total", "Streams that did not end well", "side")
        self.tokens = counter("tokens_total", "Tokens by kind", "model", "kind")
        self.cost_usd = counter("cost_usd_total", "Cost by list price", "model")
        self.predicted_quality = histogram(
            "predicted_quality", "Predicted quality of the chosen model", _QUALITY_BUCKETS, "model"
        )
        self.infeasible = counter(
            "infeasible_total", "Requests that no model could honour", "constraint"
        )
        self.scorer_failures = counter(
            "scorer_failures_total", "Decisions made without the router, which failed"
        )
        self.backend_up = gauge(
            "backend_up", "1 when the backend answers probes", "model", "backend"
        )
        self.breaker_state = gauge(
            "breaker_state", "0 closed, 1 open: the backend is left alone", "model", "backend"
        )
        self.inflight = gauge("inflight", "Requests being handled")
        self.policy_info = gauge("policy_info", "1 for the policy in force", "version")

        self._stages = {
            name: self.decision_seconds.labels(name)
            for name in ("parse", "featurise", "score", "choose")
        }

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Time one step of a decision: ``with metrics.stage("score"): ...``."""
        return self._stages[name].time()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
