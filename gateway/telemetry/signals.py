"""Gauges of what backends say of themselves."""

from __future__ import annotations

from gateway.telemetry.registry import Registry


class SignalGauges:
    """Each worker reads every server, so the workers' numbers are one number, the largest."""

    def __init__(self, new: Registry) -> None:
        by_backend = ("model", "backend")
        self.load = new.gauges(
            "backend_load",
            "What the server says: requests running, share of the KV cache in use, adapters at work",
            *by_backend,
            "signal",
            merge="max",
        )
        self.queue_depth = new.gauges(
            "queue_depth",
            "Requests that wait for room, as the server says",
            *by_backend,
            merge="max",
        )
        self.age_seconds = new.gauges(
            "backend_signal_age_seconds",
            "Since the server last told its load",
            *by_backend,
            merge="max",
        )
        self.missing = new.gauges(
            "backend_signal_missing",
            "1 where a server that tells its load leaves this out",
            *by_backend,
            "signal",
            merge="max",
        )
        self.totals = new.gauges(
            "backend_totals",
            "What the server counts since it started: tokens looked up and found in its prefix cache, "
            "preemptions, seconds in its queue and requests that left it; take rates of it",
            *by_backend,
            "kind",
            merge="max",
        )
        self.experts = new.gauges(
            "backend_experts",
            "Work of our expert kernels: totals since the server started, means and shares of it",
            *by_backend,
            "kind",
            merge="max",
        )
        self.usage_drift = new.gauges(
            "usage_drift_ratio",
            "Tokens in our ledger as a share of those that the server says it processed",
            "backend",
        )
