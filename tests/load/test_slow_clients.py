"""slowhttptest holds hundreds of connections half open, and nobody else notices.

Its three ways: headers that never end, bodies that never end, answers that are hardly read.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.deploy.gateway_process import GatewayProcess, running_gateway

pytestmark = [pytest.mark.load, pytest.mark.timeout(180)]
CONNECTIONS = 400
LASTS_S = 15
#: The gateway's bound on the time that a request takes to arrive.
RECEIVE_S = 8
#: What a healthy client may wait: less than any bound the gateway has for a slow one.
PATIENCE_S = 5.0
ATTACKS = {
    "headers": ("-H", "-i", "1", "-x", "24", "-t", "POST"),
    "body": ("-B", "-i", "1", "-x", "24", "-s", "8192", "-f", "application/json"),
    "reading": ("-X", "-w", "16", "-y", "64", "-n", "1", "-z", "8", "-k", "10"),
}
_COUNTED = re.compile(r"^(connected|closed|service available):\s+(\w+)", re.MULTILINE)


@contextmanager
def attack(
    gateway: GatewayProcess, kind: str, path: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The tool at work; what it says goes to ``log``."""
    with log.open("wb") as sink:
        tool = subprocess.Popen(
            [
                *("slowhttptest", *ATTACKS[kind], "-u", f"{gateway.url}{path}", "-v", "1"),
                *("-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", str(LASTS_S)),
                *("-p", str(int(PATIENCE_S))),
            ],
            stdout=sink,
            stderr=sink,
        )
    try:
        yield tool
    finally:
        tool.kill()
        tool.wait()


def waits_of_a_healthy_client(
    gateway: GatewayProcess, tool: subprocess.Popen[bytes]
) -> list[float]:
    """Ask until the attack is over, whole answers and streams in turn; seconds for each."""
    waits: list[float] = []
    with httpx2.Client(base_url=gateway.url, trust_env=False, timeout=PATIENCE_S) as client:
        while tool.poll() is None:
            is_stream = len(waits) % 2 == 1
            body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
            began_s = time.monotonic()
            answer = client.post("/v1/chat/completions", json={**body, "stream": is_stream})
            waits.append(time.monotonic() - began_s)
            assert answer.status_code == 200, answer.text
            assert answer.text.endswith("data: [DONE]\n\n") is is_stream
            time.sleep(0.02)
    return waits


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("headers", "/v1/chat/completions"),
        ("body", "/v1/chat/completions"),
        ("reading", "/openapi.json"),
    ],
)
def test_slow_clients_slow_nobody_else(tmp_path: Path, kind: str, path: str) -> None:
    log = tmp_path / "slowhttptest.log"
    with (
        running_gateway(tmp_path, timeouts={"receive_s": RECEIVE_S}) as gateway,
        attack(gateway, kind, path, log) as tool,
    ):
        waits = waits_of_a_healthy_client(gateway, tool)
        told = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text())
        counted = dict(_COUNTED.findall(told))
        waits.sort()
        print(f"\n{kind}: {counted}; {len(waits)} answers, the slowest after {waits[-1]:.2f} s")
        assert counted["service available"] == "YES", told
        assert int(counted["connected"]) + int(counted["closed"]) == CONNECTIONS, told
        if kind != "reading":  # who does not send in time is not kept
            assert "No open connections left" in told, told
        assert len(waits) > RECEIVE_S
        assert waits[-1] < PATIENCE_S
        assert gateway.process.poll() is None
