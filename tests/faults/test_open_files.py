"""A process that has no file left to open: it refuses politely, blames no backend, and recovers."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from gateway.open_files import KEPT_FOR_OURSELVES
from tests.deploy.gateway_process import GatewayProcess, running_gateway

FILES = 100
SERVED = (FILES - KEPT_FOR_OURSELVES) * 2 // 5
LET_IN = (FILES - KEPT_FOR_OURSELVES) * 3 // 5
UNDER = ("prlimit", f"--nofile={FILES}:{FILES}")


def wait_until(holds: Callable[[], bool], limit_s: float = 10) -> None:
    deadline_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def open_files(gateway: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


def rows(gateway: GatewayProcess) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    return [line for line in lines if line["logger"] == "thalamus.requests"]


def census(gateway: GatewayProcess, idle_files: int, requests: int) -> None:
    """Nothing is left of any request: no socket, no permit, and one row for each that was decided."""
    wait_until(lambda: open_files(gateway) <= idle_files + 6)
    assert gateway.metric("thalamus_inflight") == 0
    wait_until(lambda: len(rows(gateway)) == requests)
    assert len({row["decision_id"] for row in rows(gateway)}) == requests


def test_connections_beyond_the_limit_are_refused_in_words_and_the_others_served(
    tmp_path: Path,
) -> None:
    with running_gateway(tmp_path, under=UNDER) as gateway:
        idle_files = open_files(gateway)
        held = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(SERVED)]
        for _ in range(3):
            answer = gateway.ask("Hi")
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "out_of_files"
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["connection"] == "close"
        assert httpx2.get(f"{gateway.url}/health/live", trust_env=False).status_code == 200
        # Who was there before is served as ever.
        body = b'{"model":"auto","messages":[{"role":"user","content":"Hi"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        held[0].sendall(head % len(body) + body)
        assert held[0].recv(12) == b"HTTP/1.1 200"
        # One that is let in and says nothing is soon let go; one beyond that is closed at once.
        silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(2 * FILES)]
        for connection in silent:
            connection.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        assert open_files(gateway) < FILES
        for connection in (*held, *silent):
            connection.close()
        wait_until(lambda: open_files(gateway) <= idle_files + 6)
        assert {gateway.ask("Hi").status_code for _ in range(5)} == {200}
        census(gateway, idle_files, requests=1 + 5)
        said = gateway.log.read_text()
        assert said.count("further ones are refused") == 1
        assert "Traceback" not in said


def test_no_file_for_a_backend_is_a_503_and_no_backends_fault(tmp_path: Path) -> None:
    """The limit is lowered under a living process, as a leak of somebody else's would do it."""
    clients = 16
    with running_gateway(tmp_path) as gateway, ThreadPoolExecutor(clients) as pool:
        idle_files = open_files(gateway)
        limits = httpx2.Limits(max_connections=1)
        open_clients = [
            httpx2.Client(base_url=gateway.url, trust_env=False, timeout=10, limits=limits)
            for _ in range(clients)
        ]
        body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "stream": True}

        def ask(client: httpx2.Client) -> httpx2.Response:
            return client.post("/v1/chat/completions", json=body)

        for client in open_clients:
            assert client.get("/health/live").status_code == 200
        pid = gateway.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = open_files(gateway)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken, before[1]))
        answers = list(pool.map(ask, open_clients))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) > clients / 2
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.json()["error"]["code"] for answer in refused} == {"out_of_files"}
        time.sleep(6)  # a probe finds no file, either
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        answers = list(pool.map(ask, open_clients))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-routing-model"] for answer in answers} == {"large"}
        assert gateway.metric("thalamus_backend_up") == 2
        for client in open_clients:
            client.close()
        census(gateway, idle_files, requests=2 * clients)
        outcomes = [row["error_code"] for row in rows(gateway)]
        assert outcomes.count("out_of_files") == len(refused)
        assert "Traceback" not in gateway.log.read_text()
        wait_until(lambda: gateway.metric("thalamus_open_files") <= idle_files + 6)
