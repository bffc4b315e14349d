"""Every metric of the gateway. The only file that imports prometheus_client.

Labels come from closed sets: model, backend, profile, reason, stage, outcome; never a key or a user.
A finished request is one call, ``request_finished``; docs/metrics.md is generated from this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway.telemetry.comparisons import Comparisons
from gateway.telemetry.finished import FinishedRequest, Usage
from gateway.telemetry.judgements import Judgements
from gateway.telemetry.learning import LearningGauges
from gateway.telemetry.registry import Registry
from gateway.telemetry.series import Counter, Family, Store
from gateway.telemetry.signals import SignalGauges

_STAGE_BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5)
_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_GAP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_QUALITY_BUCKETS = tuple(i / 20 for i in range(1, 21))

STAGES = ("parse", "featurise", "score", "choose")
#: Why a model was chosen: the first word of a decision's reason, and what else it may begin with.
REASONS = {
    "highest": "quality",
    "tied": "tied",
    "only": "only_feasible",
    "best": "best_effort",
    "explored": "explored",
    "stays": "conversation",
    "cascade:": "cascade",
    "falls": "fallback",
    "unlike": "fallback",
    **{
        goal: goal
        for goal in (
            "quality", "cost", "latency", "size", "recency", "security", "verbosity", "readability",
        )
    },
}  # fmt: skip
OTHER_REASON = "other"


def _exposed(family: Family, series: Mapping[tuple[str, ...], Sequence[float]]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        bounds = [*(repr(float(b)) for b in family.bounds), "+Inf"]
        for labels, (*counts, total) in series.items():
            histogram.add_metric(
                labels, list(zip(bounds, accumulate(counts), strict=True)), sum_value=total
            )
        return histogram
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric: Metric = make(family.name, family.text, labels=family.labels)
    for labels, (value,) in series.items():
        metric.add_metric(labels, value)  # type: ignore[attr-defined]
    return metric


class _Exposition:
    """Gives a registry's numbers to prometheus_client, which asks for them as ``collect``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family, series in self._registry.series():
            yield _exposed(family, series)


class _ModelSeries:
    """The series of one model, looked up once."""

    __slots__ = ("cached", "cost", "e2e", "gap", "input", "output", "quality", "ttft")

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.e2e = metrics.e2e_seconds.labels(model)
        self.ttft = metrics.ttft_seconds.labels(model)
        self.gap = metrics.inter_token_seconds.labels(model)
        self.quality = metrics.predicted_quality.labels(model)
        self.cost = metrics.cost_usd.labels(model)
        self.input = metrics.tokens.labels(model, "input")
        self.cached = metrics.tokens.labels(model, "cached")
        self.output = metrics.tokens.labels(model, "output")


class Metrics:
    """One registry and the metrics in it; a process has one, a test may have many.

    ``folder`` is where the workers of one gateway add up their numbers; None for a lone process.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, folder: Path | None = None) -> None:
        self._registry = Registry(Store(folder))
        self._declare_decisions(self._registry)
        self.comparisons = Comparisons(self._registry)
        self.judgements = Judgements(self._registry)
        self.learning = LearningGauges(self._registry)
        self._declare_traffic(self._registry)
        self._declare_backends(self._registry)
        self._declare_process(self._registry)
        self._by_model: dict[str, _ModelSeries] = {}
        self._by_outcome: dict[tuple[str, str, str], Counter] = {}

    @property
    def families(self) -> Mapping[str, Family]:
        """Every metric by its full name, for the documentation."""
        return self._registry.families

    def _declare_decisions(self, new: Registry) -> None:
        self.policy_info = new.gauges(
            "policy_info", "1 for the policy in force", "version", merge="max"
        )
        self.decision_seconds = new.histograms(
            "decision_seconds", "Time of each step of a decision", _STAGE_BUCKETS, "stage"
        )
        self._stages = [self.decision_seconds.labels(stage) for stage in STAGES]
        self.overhead_seconds = new.histogram(
            "overhead_seconds", "Gateway time before the backend is asked", _STAGE_BUCKETS
        )
        self.predicted_quality = new.histograms(
            "predicted_quality", "Predicted quality of the chosen model", _QUALITY_BUCKETS, "model"
        )
        self.budget_remaining_usd = new.gauges(
            "budget_remaining_usd",
            "The least that any key with a budget has left of it",
            "period",
            merge="min",
        )
        self._declare_store(new)
        self.decisions = new.counters(
            "decisions_total", "Choices by what decided them", "model", "reason"
        )
        self.infeasible = new.counters(
            "infeasible_total", "Requests that no model could honour", "constraint"
        )
        self.constraint_violations = new.counters(
            "constraint_violations_total",
            "Answers that broke a limit that their prediction had kept",
            "constraint",
        )
        self.decisions_unlogged = new.counter(
            "decision_log_lost_total", "Records that the decision log could not write"
        )
        self.scorer_failures = new.counter(
            "scorer_failures_total", "Decisions made without the router, which failed"
        )

    def _declare_store(self, new: Registry) -> None:
        self.store_up = new.gauge(
            "store_up", "0 while any worker cannot reach what processes share in Redis", "min"
        )
        self.store_calls = new.counters(
            "store_calls_total",
            "Commands to Redis: ok, failed, or skipped while it was away",
            "result",
        )
        for result in ("ok", "failed", "skipped"):
            self.store_calls.labels(result)
        self.store_waiting = new.gauge("store_waiting", "Settlements that wait for Redis")
        self.ledger_lost = new.counter(
            "ledger_rows_lost_total", "Finished requests that the ledger could not write down"
        )
        self.store_lost = new.counter(
            "store_lost_total", "Settlements that never reached Redis and are not counted there"
        )

    def _declare_traffic(self, new: Registry) -> None:
        self.inflight = new.gauge("inflight", "Requests being handled")
        self.requests = new.counters(
            "requests_total", "Requests answered", "model", "profile", "outcome"
        )
        self.ttft_seconds = new.histograms(
            "ttft_seconds", "Time to the first token at the client", _LATENCY_BUCKETS, "model"
        )
        self.inter_token_seconds = new.histograms(
            "inter_token_seconds", "Mean time per token after the first", _GAP_BUCKETS, "model"
        )
        self.e2e_seconds = new.histograms(
            "e2e_seconds", "Whole request at the client", _LATENCY_BUCKETS, "model"
        )
        self.stream_aborts = new.counters(
            "stream_aborts_total", "Streams that broke off, by who broke them off", "side"
        )
        self.stream_resumes = new.counters(
            "stream_resumes_total",
            "Streams that broke off, by whether another backend went on",
            "model",
            "result",
        )
        self._aborts = {side: self.stream_aborts.labels(side) for side in ("client", "backend")}
        self.tokens = new.counters("tokens_total", "Tokens by kind", "model", "kind")
        self.cost_usd = new.counters("cost_usd_total", "Cost by list price", "model")

    def _declare_backends(self, new: Registry) -> None:
        self.upstream_attempts = new.counters(
            "upstream_attempts_total", "Tries at a backend", "backend", "outcome"
        )
        self.cascades = new.counters(
            "cascade_first_tries_total",
            "Answers of a cheaper model asked first: accepted, escalated or failed",
            "model",
            "result",
        )
        self.fallbacks = new.counters(
            "fallbacks_total", "Requests answered by another model than chosen first", "model"
        )
        self.backend_up = new.gauges(
            "backend_up", "1 when the backend answers probes", "model", "backend", merge="min"
        )
        self.breaker_state = new.gauges(
            "breaker_state",
            "0 closed, 1 open: the backend is left alone",
            "model",
            "backend",
            merge="max",
        )
        self.backend_inflight = new.gauges(
            "backend_inflight", "Requests that the backend is answering", "model", "backend"
        )
        self.signals = SignalGauges(new)

    def _declare_process(self, new: Registry) -> None:
        self.workers = new.gauge("workers", "Processes that serve")
        self.resident_bytes = new.gauge("resident_bytes", "Memory of all workers")
        self.cpu_seconds = new.counter("cpu_seconds_total", "Processor time of all workers")
        self.open_files = new.gauge("open_files", "Open files and sockets of all workers")
        self.loop_lag_seconds = new.histogram(
            "loop_lag_seconds", "How late the event loop comes to a timer", _LAG_BUCKETS
        )
        self.config_reloads = new.counters(
            "config_reloads_total",
            "Times the configuration was read again: ok or refused",
            "result",
        )
        for result in ("ok", "refused"):  # there from the start: a rise from nothing is no rise
            self.config_reloads.labels(result)
        self.traces = new.counters(
            "traces_total", "Traces of requests: sent to the collector, or lost", "result"
        )
        for result in ("sent", "lost"):
            self.traces.labels(result)
        self.log_lines_lost = new.counter(
            "log_lines_lost_total", "Log lines dropped because the reader did not keep up"
        )

    def observe_decision(
        self, laps: Sequence[float], overhead_s: float, nearness: float | None = None
    ) -> None:
        """Take one decision: the moments between which its steps lie, in seconds, and its whole."""
        for stage, (began_s, ended_s) in zip(self._stages, pairwise(laps), strict=True):
            stage.observe(ended_s - began_s)
        self.overhead_seconds.observe(overhead_s)
        if nearness is not None:
            self.judgements.nearness.observe(nearness)

    def request_finished(self, row: FinishedRequest) -> None:
        """Count one finished request, however it ended."""
        usage, cost_nanos = row.usage, row.cost_nanos
        if row.spent:
            for other in row.spent:
                if cost_nanos and other.cost_nanos:
                    cost_nanos -= other.cost_nanos
                self._count_usage(other.model, other.usage, other.cost_nanos)
        model = self._count_usage(row.model, usage, cost_nanos)
        self._count_outcome(row)
        model.quality.observe(row.predicted_quality)
        model.e2e.observe(row.duration_ms / 1e3)
        if row.ttft_ms is not None:
            model.ttft.observe(row.ttft_ms / 1e3)
            if usage.completion_tokens > 1:
                gap_ms = (row.duration_ms - row.ttft_ms) / (usage.completion_tokens - 1)
                model.gap.observe(gap_ms / 1e3)

    def _count_usage(self, name: str, usage: Usage, cost_nanos: int | None) -> _ModelSeries:
        model = self._by_model.get(name) or self._know(name)
        cached = usage.cached_tokens
        model.input.inc(usage.prompt_tokens - cached)
        if cached:
            model.cached.inc(cached)
        model.output.inc(usage.completion_tokens)
        if cost_nanos:
            model.cost.inc(cost_nanos * 1e-9)
        return model

    def _count_outcome(self, row: FinishedRequest) -> None:
        key = (row.model, row.profile, row.outcome)
        requests = self._by_outcome.get(key)
        if requests is None:
            requests = self._by_outcome[key] = self.requests.labels(*key)
        requests.inc()
        reason = REASONS.get(row.reason.partition(" ")[0], OTHER_REASON)
        self.decisions.labels(row.chosen_model, reason).inc()
        if row.outcome != "ok":
            if row.ttft_ms is not None:
                self._aborts["client" if row.outcome == "cancelled" else "backend"].inc()
        elif row.model != row.chosen_model:
            self.fallbacks.labels(row.model).inc()

    def _know(self, model: str) -> _ModelSeries:
        series = self._by_model[model] = _ModelSeries(self, model)
        return series

    def know_models(self, models: Sequence[str], backends: Sequence[tuple[str, str]]) -> None:
        """Begin the series of all configured models at zero, so that a rate sees their first step."""
        self.requests.labels("none", "none", "rejected")
        for constraint in ("max_cost_usd", "max_ttft_ms", "max_latency_ms"):
            self.constraint_violations.labels(constraint)
        for model in models:
            self._know(model)
            self.decisions.labels(model, "fallback")
            self.comparisons.know(model)
            for result in ("continued", "failed"):
                self.stream_resumes.labels(model, result)
            for outcome in ("ok", "error", "cancelled"):
                self.requests.labels(model, "best", outcome)
            self.fallbacks.labels(model)
        for model, backend in backends:
            self.upstream_attempts.labels(backend, "ok")
            self.backend_up.labels(model, backend)
            self.breaker_state.labels(model, backend)

    def exposition(self) -> bytes:
        """All metrics of all workers in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Exposition(self._registry))
        return generate_latest(registry)
