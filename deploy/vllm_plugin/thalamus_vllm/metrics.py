"""The API server's side of the metrics: ``/metrics`` shows what the workers counted."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

FOLDER = "THALAMUS_EXPERTS_STATS"
LABELS = ["layer", "worker"]
COUNTERS = (
    ("calls", "times that the layer's fused experts ran"),
    ("tokens", "tokens given to the layer, padding of CUDA graphs included"),
    ("slots", "(token, expert) choices given to the layer"),
    ("distinct_experts", "experts that had a token, summed over the calls"),
)


def register() -> None:
    """Agree on a folder with the workers, which inherit the environment, and collect from it."""
    os.environ.setdefault(FOLDER, tempfile.mkdtemp(prefix="thalamus-experts-"))
    REGISTRY.register(ExpertCollector(Path(os.environ[FOLDER])))


class ExpertCollector(Collector):
    """Reads every worker's file at each scrape."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        files = [json.loads(path.read_text()) for path in sorted(self._folder.glob("*.json"))]
        if not files:
            return
        rows = [
            (str(f["worker"]), layer, row) for f in files for layer, row in enumerate(f["rows"])
        ]
        for at, (name, text) in enumerate(COUNTERS):
            family = CounterMetricFamily(f"thalamus_moe_{name}", text, labels=LABELS)
            for worker, layer, row in rows:
                family.add_metric([str(layer), worker], row[at])
            yield family
        idle = CounterMetricFamily(
            "thalamus_moe_slots_not_computed", "slots dropped, or another rank's", labels=LABELS
        )
        busiest = GaugeMetricFamily(
            "thalamus_moe_busiest_expert_share",
            "share of the layer's computed slots that went to its busiest expert",
            labels=LABELS,
        )
        for worker, layer, row in rows:
            computed = sum(row[4:])
            idle.add_metric([str(layer), worker], row[2] - computed)
            busiest.add_metric([str(layer), worker], max(row[4:]) / max(computed, 1))
        yield idle
        yield busiest
