"""CPU time that telemetry takes of one request: `python -m tests.benchmarks.metrics_cost`.

Everything that is counted and logged for one streamed request with five candidates, for a lone
process and for one of several workers; the median of rounds that take turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway.ledger.accounting import LedgerRow
from gateway.ledger.savings import compare
from gateway.telemetry.logs import RequestLog
from gateway.telemetry.metrics import Metrics
from gateway.upstream.usage import TokenUsage
from policies.types import Candidate, Evaluated

ROW = LedgerRow(
    request_id="req_1", decision_id="dec_1", principal="anonymous", at_s=0,
    profile="best", chosen_model="m1",
    model="m1", backend="b", reason="highest predicted quality 0.9, next m2 0.5", outcome="ok",
    error_code=None, attempts=1, usage=TokenUsage(100, 40, 11), cost_nanos=5_000_000,
    predicted_quality=0.9, ttft_ms=200, duration_ms=1200,
)  # fmt: skip
POOL = [
    Evaluated(Candidate(f"m{i}", 0.9 - i / 10, 0, 1, 1e-3 / i, 100, 50, 900), (), True, 0.0)
    for i in range(1, 6)
]
LAPS = (0.0, 1e-4, 2e-4, 9e-4, 1e-3)
REQUESTS = 2_000
ROUNDS = 15


def one_request(metrics: Metrics) -> None:
    metrics.inflight.set(1)
    metrics.observe_decision(LAPS, 1e-3)
    metrics.upstream_attempts.labels("b", "ok").inc()
    metrics.request_finished(ROW)
    compared = compare(POOL, "m1")
    if compared is not None:
        metrics.comparisons.note(*compared)
    metrics.inflight.set(0)


def cpu_us(work: Callable[[], None], log: RequestLog) -> float:
    """Processor time of all threads, the writing of what was logged included."""
    began_s = time.process_time()
    for _ in range(REQUESTS):
        work()
    while log.waiting_lines:
        time.sleep(0.01)
    return (time.process_time() - began_s) / REQUESTS * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "wb") as nowhere:
        alone, shared = Metrics(), Metrics(Path(folder))
        log = RequestLog(alone.log_lines_lost, nowhere.fileno())

        def logged() -> None:
            log.note(ROW)

        cases: dict[str, Callable[[], None]] = {
            "metrics, a lone process": lambda: one_request(alone),
            "metrics, one of several workers": lambda: one_request(shared),
            "the line of the log, with its writing": logged,
        }
        rounds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, work in cases.items():
                rounds[name].append(cpu_us(work, log))
        log.close()
    for name, taken in rounds.items():
        print(f"{name}: {statistics.median(taken):.2f} µs a request (least {min(taken):.2f})")


if __name__ == "__main__":
    main()
