"""Traces of real processes through a real collector, Rotel, which is a part of the dev group.

It takes our JSON, reads it into OpenTelemetry's structures, and sends those on as protobuf; what comes
out of it is what any collector would have understood.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.demo_process import free_port
from tests.deploy.gateway_process import running_gateway
from tests.fakes.collector import FakeCollector, fake_collector

HAS_ROTEL = importlib.util.find_spec("rotel") is not None
#: Where pyproject.toml installs it, it has to be there.
MUST_HAVE_ROTEL = (
    sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 14)
)


@contextmanager
def rotel(folder: Path, sends_to: str) -> Iterator[str]:
    """The address of a collector that passes on to another."""
    if not HAS_ROTEL:
        pytest.skip("Rotel has no build for this machine")
    spec = importlib.util.find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).with_name("rotel-agent")
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            program, "start",
            "--otlp-http-endpoint", address,
            "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}",
            "--exporter", "otlp",
            "--otlp-exporter-protocol", "http",
            "--otlp-exporter-endpoint", sends_to,
            "--pid-file", folder / "rotel.pid",
            "--log-file", folder / "rotel.log",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline_s = time.monotonic() + 20
        while True:
            try:
                httpx2.get(f"http://{address}/", trust_env=False)
                break
            except httpx2.TransportError:
                assert time.monotonic() < deadline_s
                assert process.poll() is None
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


def wait_for(collector: FakeCollector, roots: int, limit_s: float = 30) -> None:
    deadline_s = time.monotonic() + limit_s
    while len(collector.roots()) < roots:
        assert time.monotonic() < deadline_s, f"{len(collector.roots())} of {roots} traces came"
        time.sleep(0.05)


def test_a_real_collector_understands_the_traces_of_two_workers(tmp_path: Path) -> None:
    assert HAS_ROTEL or not MUST_HAVE_ROTEL
    with fake_collector() as collector, rotel(tmp_path, collector.url) as between:
        tracing = {"endpoint": between, "service_name": "gateway-of-the-test"}
        with running_gateway(tmp_path, workers=2, tracing=tracing) as gateway:
            with ThreadPoolExecutor(8) as clients:
                answers = clients.map(lambda at: gateway.ask("Hi", stream=bool(at % 2)), range(40))
                assert {answer.status_code for answer in answers} == {200}
            wait_for(collector, 40)
        roots = collector.roots()
        assert len({root.trace_id for root in roots}) == len(roots) == 40
        assert {root.resource["service.name"] for root in roots} == {"gateway-of-the-test"}
        # Which worker accepts a connection is the kernel's to say; each tells who it is.
        assert 1 <= len({root.resource["service.instance.id"] for root in roots}) <= 2
        for root in roots:
            names = [span.name for span in collector.beneath(root)]
            assert names[:6] == ["authenticate", "parse", "featurise", "score", "choose", "reserve"]
            assert names[-1] == "account"
            assert root.told["gen_ai.usage.input_tokens"] == 10
        streamed = [span for span in collector.spans if span.name == "stream"]
        assert len(streamed) == 20
        assert all(span.raw.events[0].name == "first token" for span in streamed)
        # It really went through: what comes out is protobuf, which we do not write.
        assert {h["content-type"] for h in collector.headers} == {"application/x-protobuf"}


def test_the_end_of_the_process_sends_what_waits(tmp_path: Path) -> None:
    with fake_collector() as collector:
        with running_gateway(tmp_path, tracing={"endpoint": collector.url}) as gateway:
            for at in range(5):
                gateway.ask(f"Hi {at}").raise_for_status()
        assert len(collector.roots()) == 5
        log = gateway.log.read_text()
    assert all(f'"trace_id":"{root.trace_id}"' in log for root in collector.roots())


def test_a_collector_that_is_away_costs_no_request(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    with running_gateway(tmp_path, tracing={"endpoint": away, "timeout_s": 0.5}) as gateway:
        for _ in range(3):
            assert gateway.ask("Hi").status_code == 200
        time.sleep(1.5)
        assert gateway.ask("Hi").status_code == 200
        assert "traces do not reach their collector" in gateway.log.read_text()
