"""Every metric of the gateway. The only file that imports prometheus_client.

Labels come from closed sets: model, backend, profile, reason, stage, outcome; never a key or a user.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_STAGE_BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5)
_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_GAP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_QUALITY_BUCKETS = tuple(i / 20 for i in range(1, 21))


class _Registry:
    """Declares metrics under the common prefix."""

    def __init__(self) -> None:
        self.collector = CollectorRegistry()

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"thalamus_{name}", text, labels, registry=self.collector)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"thalamus_{name}", text, labels, registry=self.collector)

    def histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"thalamus_{name}", text, labels, buckets=buckets, registry=self.collector)


class Metrics:
    """One registry and the metrics in it; a process has one, a test may have many."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = _Registry()
        self._declare_decisions(self._registry)
        self._declare_traffic(self._registry)
        self._declare_backends(self._registry)

    def _declare_decisions(self, new: _Registry) -> None:
        self.policy_info = new.gauge("policy_info", "1 for the policy in force", "version")
        self.decision_seconds = new.histogram(
            "decision_seconds", "Time of each step of a decision", _STAGE_BUCKETS, "stage"
        )
        self._stages = [
            self.decision_seconds.labels(name) for name in ("parse", "featurise", "score", "choose")
        ]
        self.overhead_seconds = new.histogram(
            "overhead_seconds", "Gateway time before the backend is asked", _STAGE_BUCKETS
        )
        self.predicted_quality = new.histogram(
            "predicted_quality", "Predicted quality of the chosen model", _QUALITY_BUCKETS, "model"
        )
        self.infeasible = new.counter(
            "infeasible_total", "Requests that no model could honour", "constraint"
        )
        self.decisions_unlogged = new.counter(
            "decision_log_lost_total", "Records that the decision log could not write"
        )
        self.scorer_failures = new.counter(
            "scorer_failures_total", "Decisions made without the router, which failed"
        )

    def _declare_traffic(self, new: _Registry) -> None:
        self.inflight = new.gauge("inflight", "Requests being handled")
        self.requests = new.counter(
            "requests_total", "Requests answered", "model", "profile", "outcome"
        )
        self.ttft_seconds = new.histogram(
            "ttft_seconds", "Time to the first token at the client", _LATENCY_BUCKETS, "model"
        )
        self.inter_token_seconds = new.histogram(
            "inter_token_seconds", "Mean time per token after the first", _GAP_BUCKETS, "model"
        )
        self.e2e_seconds = new.histogram(
            "e2e_seconds", "Whole request at the client", _LATENCY_BUCKETS, "model"
        )
        self.stream_aborts = new.counter(
            "stream_aborts_total", "Streams that broke off, by who broke them off", "side"
        )
        self.tokens = new.counter("tokens_total", "Tokens by kind", "model", "kind")
        self.cost_usd = new.counter("cost_usd_total", "Cost by list price", "model")

    def _declare_backends(self, new: _Registry) -> None:
        self.upstream_attempts = new.counter(
            "upstream_attempts_total", "Tries at a backend", "backend", "outcome"
        )
        self.fallbacks = new.counter(
            "fallbacks_total", "Requests answered by another model than chosen first", "model"
        )
        self.backend_up = new.gauge(
            "backend_up", "1 when the backend answers probes", "model", "backend"
        )
        self.breaker_state = new.gauge(
            "breaker_state", "0 closed, 1 open: the backend is left alone", "model", "backend"
        )

    def observe_decision(self, laps: Sequence[float], overhead_s: float) -> None:
        """Take one decision: the moments between which its steps lie, in seconds, and its whole."""
        for stage, (began_s, ended_s) in zip(self._stages, pairwise(laps), strict=True):
            stage.observe(ended_s - began_s)
        self.overhead_seconds.observe(overhead_s)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry.collector)
