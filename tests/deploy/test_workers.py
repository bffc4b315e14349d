"""Several real workers behind one port: whoever is scraped tells the numbers of all."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from gateway.settings import State
from gateway.tenancy.keys import KeyPolicy, make_key
from gateway.tenancy.store import StoredKeys
from tests.deploy.gateway_process import GatewayProcess, running_gateway
from tests.fakes.redis_server import redis_server


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


@pytest.mark.redis
def test_workers_keep_one_rate_together(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as redis:
        token, key = make_key("test", KeyPolicy(requests_per_minute=12), time.time())
        StoredKeys(State(url=redis.url)).add(key)
        # Long enough for a busy machine: what is looked at is the count.
        shared = {"auth": {"mode": "keys"}, "state": {"url": redis.url, "command_ms": 2_000}}
        with running_gateway(tmp_path, workers=2, **shared) as gateway:
            wait_for(gateway, "thalamus_workers", 2)
            # Each is a connection of its own, which either worker may take.
            statuses = [gateway.ask("Hi", key=token).status_code for _ in range(30)]
            assert sorted(statuses) == [200] * 12 + [429] * 18
            assert gateway.metric("thalamus_store_up") == 1
