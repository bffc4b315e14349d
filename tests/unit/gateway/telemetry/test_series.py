from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import series
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.series import Family, SeriesFull, Store

COUNT_ELSEWHERE = """
import sys
from pathlib import Path
from gateway.telemetry.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
metrics.scorer_failures.inc(5)
metrics.inflight.set(7)
metrics.overhead_seconds.observe(0.002)
metrics.infeasible.labels("min_quality").inc(2)
"""


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"thalamus_{name}", frozenset(labels.items())))


def test_what_a_dead_worker_counted_stays_and_its_gauges_go(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.scorer_failures.inc()
    metrics.inflight.set(2)
    subprocess.run([sys.executable, "-c", COUNT_ELSEWHERE, tmp_path], check=True)
    assert value(metrics, "scorer_failures_total") == 6
    assert value(metrics, "infeasible_total", constraint="min_quality") == 2
    assert value(metrics, "overhead_seconds_count") == 1
    assert value(metrics, "inflight") == 2


def test_living_siblings_add_up(tmp_path: Path) -> None:
    one, other = Metrics(tmp_path), Metrics(tmp_path)
    for metrics, up in ((one, 1), (other, 0)):
        metrics.inflight.set(3)
        metrics.backend_up.labels("m", "b").set(up)
        metrics.breaker_state.labels("m", "b").set(1 - up)
        metrics.policy_info.labels("v").set(1)
    for metrics in (one, other):
        assert value(metrics, "inflight") == 6
        assert value(metrics, "backend_up", model="m", backend="b") == 0
        assert value(metrics, "breaker_state", model="m", backend="b") == 1
        assert value(metrics, "policy_info", version="v") == 1


def test_a_line_that_is_being_written_is_left_for_the_next_scrape(tmp_path: Path) -> None:
    metrics, sibling = Metrics(tmp_path), Metrics(tmp_path)
    sibling.scorer_failures.inc()
    names = next(p for p in tmp_path.glob("*.names") if p.stat().st_size)
    names.write_bytes(names.read_bytes() + b'["thalamus_requ')
    assert value(metrics, "scorer_failures_total") == 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1000), max_size=50))
def test_a_histogram_counts_each_observation_below_its_bound(observed: list[float]) -> None:
    metrics = Metrics()
    for seconds in observed:
        metrics.e2e_seconds.labels("m").observe(seconds)
    counted = samples(metrics)
    for (name, labels), count in counted.items():
        if name == "thalamus_e2e_seconds_bucket":
            bound = float(dict(labels)["le"])
            assert count == sum(seconds <= bound for seconds in observed)
    if observed:
        total = value(metrics, "e2e_seconds_sum", model="m")
        assert total == pytest.approx(sum(observed))


def test_labels_without_end_are_a_defect_and_not_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "CAPACITY", 10)
    store = Store()
    family = Family("f", "", "histogram", ("l",), (1.0, 2.0))
    store.place(family, ("a",))
    store.place(family, ("b",))
    assert store.place(family, ("a",)) == 0
    with pytest.raises(SeriesFull, match="f has too many"):
        store.place(family, ("c",))


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="model"):
        Metrics().requests.labels("only-one")


def test_the_files_of_another_process_are_told_by_its_pid(tmp_path: Path) -> None:
    Store(tmp_path)
    assert next(tmp_path.glob("*.values")).name.startswith(f"{os.getpid()}-")
