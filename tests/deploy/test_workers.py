"""Several real workers behind one port: whoever is scraped tells the numbers of all."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.deploy.gateway_process import GatewayProcess, running_gateway


def workers_of(gateway: GatewayProcess) -> list[int]:
    """The children that serve; Python's own resource tracker is none."""
    pid = gateway.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def wait_for(gateway: GatewayProcess, metric: str, expected: float) -> None:
    deadline_s = time.monotonic() + 30
    while (found := gateway.metric(metric)) != expected:
        assert time.monotonic() < deadline_s, f"{metric} is {found}, not {expected}"
        time.sleep(0.1)


def test_every_scrape_tells_all_workers_and_a_killed_one_loses_nothing(tmp_path: Path) -> None:
    with running_gateway(tmp_path, workers=2) as gateway:
        wait_for(gateway, "thalamus_workers", 2)
        for number in range(40):
            assert gateway.ask("Hi", stream=bool(number % 2)).status_code == 200
        for _ in range(10):  # connections fall to either worker
            assert gateway.metric("thalamus_requests_total") == 40
            assert gateway.metric("thalamus_inflight") == 0

        os.kill(workers_of(gateway)[0], signal.SIGKILL)
        deadline_s = time.monotonic() + 30
        while len(workers_of(gateway)) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        wait_for(gateway, "thalamus_workers", 2)
        assert gateway.metric("thalamus_requests_total") == 40
        wait_for(gateway, "thalamus_backend_up", 2)  # the new worker has to ask them first

    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    requests = [line for line in lines if line["logger"] == "thalamus.requests"]
    assert len(requests) == 40
    assert {line["outcome"] for line in requests} == {"ok"}
