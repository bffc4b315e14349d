"""A process that did not run for a while (stopped, swapped out, starved) judges nobody by that time."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.gateway_process import GatewayProcess, answering_backend, running_gateway
from tests.fakes.backend import (
    DONE,
    END_OF_STREAM,
    STREAM_HEAD,
    USAGE,
    Connection,
    chunked,
    completion,
    event,
)
from tests.faults.test_open_files import census, open_files, rows

CHUNKS = 10
TIMEOUTS = {"idle_s": 1.2, "first_token_s": 1.2, "answer_s": 1.2, "receive_s": 1.2, "send_s": 1.2}
STALL_S = 3.0


async def paced(connection: Connection) -> None:
    """A stream with an event every quarter of a second; an answer at once, or after ``wait S``."""
    if not connection.request.body.get("stream"):
        word, _, seconds = connection.request.body["messages"][0]["content"].partition(" ")
        if word == "wait":
            await asyncio.sleep(float(seconds))
        await connection.write(completion())
        return
    await connection.write(STREAM_HEAD)
    for _ in range(CHUNKS):
        await connection.write(chunked(event("a")))
        await asyncio.sleep(0.25)
    last = chunked(event("b", finish="stop"), event(usage=USAGE), DONE)
    await connection.write(last + END_OF_STREAM)


@contextmanager
def stopped(gateway: GatewayProcess) -> Iterator[None]:
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(STALL_S)
    finally:
        gateway.process.send_signal(signal.SIGCONT)


def test_what_was_under_way_when_the_process_stood_still_ends_well(tmp_path: Path) -> None:
    with (
        answering_backend(paced) as backend,
        running_gateway(tmp_path, backend=backend, timeouts=TIMEOUTS) as gateway,
        ThreadPoolExecutor(8) as pool,
    ):
        idle_files = open_files(gateway)
        streams = [pool.submit(gateway.ask, "Hi", stream=True) for _ in range(5)]
        time.sleep(0.4)
        whole = pool.submit(gateway.ask, "wait 0.5")
        uploading = socket.create_connection(("127.0.0.1", gateway.port))
        body = b'{"model":"auto","messages":[{"role":"user","content":"Hi"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        uploading.sendall(head % len(body) + body[:20])
        time.sleep(0.2)
        with stopped(gateway):
            uploading.sendall(body[20:])
        for stream in streams:
            text = stream.result(15).text
            assert text.count('"content": "a"') == CHUNKS
            assert text.count("data: [DONE]") == 1
            assert "error" not in text
        assert whole.result(15).status_code == 200
        uploading.settimeout(10)
        assert uploading.recv(12) == b"HTTP/1.1 200"
        uploading.close()
        census(gateway, idle_files, requests=7)
        assert {row["outcome"] for row in rows(gateway)} == {"ok"}
        assert gateway.metric("thalamus_backend_up") == 2


async def silent(connection: Connection) -> None:
    """A stream that stops after its first event, for good; an answer that never begins."""
    if connection.request.body.get("stream"):
        await connection.write(STREAM_HEAD + chunked(event("a")))
    await connection.wait_until_client_leaves()


def test_who_is_silent_after_the_stall_too_is_given_up(tmp_path: Path) -> None:
    with (
        answering_backend(silent) as backend,
        running_gateway(tmp_path, backend=backend, timeouts=TIMEOUTS) as gateway,
        ThreadPoolExecutor(1) as pool,
    ):
        idle_files = open_files(gateway)
        stream = pool.submit(gateway.ask, "Hi", stream=True)
        time.sleep(0.4)
        with stopped(gateway):
            pass
        began_s = time.monotonic()
        text = stream.result(15).text
        assert time.monotonic() - began_s < 1
        assert json.loads(text.split("\n\n")[-2][6:])["error"]["code"] == "backend_timeout"
        census(gateway, idle_files, requests=1)
