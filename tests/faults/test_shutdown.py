"""SIGTERM to a real process: what is under way ends as it should within the time to drain."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.deploy.gateway_process import GatewayProcess, answering_backend, running_gateway
from tests.fakes.backend import Act
from tests.faults.test_open_files import rows, wait_until
from tests.faults.test_stalls import CHUNKS, paced, silent

#: uvicorn ends its process by the signal that it got.
BY_SIGTERM = -signal.SIGTERM
BODY = b'{"model":"auto","messages":[{"role":"user","content":"Hi"}]}'
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"


def refuses(gateway: GatewayProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", gateway.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def booked(folder: Path) -> int:
    with closing(sqlite3.connect(f"file:{folder}/ledger.db?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM requests").fetchone()[0])


@contextmanager
def draining(folder: Path, act: Act, drain_s: int) -> Iterator[GatewayProcess]:
    with answering_backend(act) as backend:
        settings = {"drain_s": drain_s}
        with running_gateway(folder, backend=backend, server_settings=settings) as gateway:
            yield gateway


def test_idle_it_ends_at_once_and_open_connections_with_it(tmp_path: Path) -> None:
    with draining(tmp_path, paced, 20) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as idle:
            idle.sendall(REQUEST % (len(BODY), BODY))
            assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
            began_s = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(20) == BY_SIGTERM
            assert time.monotonic() - began_s < 10, "it does not wait for who asks nothing"
            assert idle.recv(1) == b""
        assert [row["outcome"] for row in rows(gateway)] == ["ok"], "the last row is written"


@pytest.mark.parametrize("times", [1, 2])
def test_streams_and_answers_under_way_end_well_and_nobody_new_is_let_in(
    tmp_path: Path, times: int
) -> None:
    with draining(tmp_path, paced, 20) as gateway, ThreadPoolExecutor(4) as pool:
        whole = pool.submit(gateway.ask, "wait 4")
        streams = [pool.submit(gateway.ask, "Hi", stream=True) for _ in range(3)]
        wait_until(lambda: gateway.metric("thalamus_inflight") == 4)
        for _ in range(times):
            gateway.process.send_signal(signal.SIGTERM)
            wait_until(lambda: refuses(gateway))
        assert whole.result(15).status_code == 200
        for stream in streams:
            text = stream.result(10).text
            assert text.count('"content": "a"') == CHUNKS
            assert text.endswith("data: [DONE]\n\n")
        assert gateway.process.wait(20) == BY_SIGTERM
        assert [row["outcome"] for row in rows(gateway)] == ["ok"] * 4


def test_at_the_end_of_the_time_to_drain_a_stream_ends_with_one_error(tmp_path: Path) -> None:
    with draining(tmp_path, silent, 1) as gateway, ThreadPoolExecutor(1) as pool:
        stream = pool.submit(gateway.ask, "Hi", stream=True)
        whole = socket.create_connection(("127.0.0.1", gateway.port))
        whole.sendall(REQUEST % (len(BODY), BODY))
        wait_until(lambda: gateway.metric("thalamus_inflight") == 2)
        began_s = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        events = stream.result(10).text.split("\n\n")
        assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "overloaded"
        assert sum("error" in event or "[DONE]" in event for event in events) == 1
        answer = whole.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        whole.close()
        assert gateway.process.wait(20) == BY_SIGTERM
        assert 1 <= time.monotonic() - began_s < 1 + 6
        assert [row["outcome"] for row in rows(gateway)] == ["cancelled"] * 2


def test_after_sigkill_what_was_written_stays_and_the_next_start_serves(tmp_path: Path) -> None:
    ledger = {"ledger": str(tmp_path / "ledger.db")}
    with running_gateway(tmp_path, state=ledger) as gateway:
        assert gateway.ask("Hi").status_code == 200
        wait_until(lambda: booked(tmp_path) == 1)
        gateway.process.kill()
        gateway.process.wait(10)
    with running_gateway(tmp_path, state=ledger) as gateway:
        assert gateway.ask("Hi").status_code == 200
        wait_until(lambda: booked(tmp_path) == 2)
