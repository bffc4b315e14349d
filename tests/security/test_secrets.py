"""Secrets and prompts put in at every door of a real gateway, and looked for at every way out."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.demo_process import free_port
from tests.deploy.gateway_process import GatewayProcess, answering_backend, running_gateway
from tests.fakes.backend import STREAM_HEAD, Connection, chunked, completion, event, json_answer
from tests.faults.test_open_files import wait_until

BACKEND_KEY = "canary-of-the-backend-4f7c19"
ADMIN_KEY = "canary-of-the-admin-8d02aa"
PROMPT = "canary-in-the-prompt-77b1e5"
ANSWER = "canary-in-the-answer-c0ffee"
HEADER = "canary-in-a-header-5ca1ab"
BACKENDS_OWN = "canary-of-its-headers-0ddba1"
#: What a provider says when a key is wrong: the key itself, in its words.
TOLD = f"Incorrect API key provided: {BACKEND_KEY}. Find yours at http://keys.example/{BACKEND_KEY}"


async def tells_all(connection: Connection) -> None:
    """A backend that repeats what it was sent wherever it can."""
    prompt = str(connection.request.body["messages"][-1]["content"])
    assert connection.request.headers["authorization"] == f"Bearer {BACKEND_KEY}"
    assert HEADER not in json.dumps(connection.request.headers)
    told = {"error": {"message": TOLD, "code": BACKEND_KEY, "type": BACKEND_KEY, "param": "key"}}
    for word, status in (("401", 401), ("403", 403), ("400", 400), ("503", 503)):
        if word in prompt:
            await connection.write(json_answer(told, status))
            return
    if "break" in prompt:
        await connection.write(STREAM_HEAD + chunked(event("a")))
        await connection.write(chunked(b"data: " + json.dumps(told).encode() + b"\n\n"))
        connection.reset()
        return
    whole = completion(ANSWER)
    extra = f"x-canary: {BACKENDS_OWN}\r\nset-cookie: c={BACKENDS_OWN}\r\n\r\n".encode()
    await connection.write(whole.replace(b"\r\n\r\n", b"\r\n" + extra, 1))


@pytest.fixture
def client_key(tmp_path: Path) -> str:
    token, key = make_key("canary", KeyPolicy(), 0.0)
    KeyFile(tmp_path / "keys.db").add(key)
    return token


@pytest.fixture
def gateway(tmp_path: Path, client_key: str) -> Iterator[GatewayProcess]:
    with answering_backend(tells_all) as url:
        backend = {"url": url, "name": "pool", "api_key": "env:BACKEND_KEY"}
        models = {"large": {"backends": [backend], "price_usd_per_mtok": {"input": 1, "output": 2}}}
        with running_gateway(
            tmp_path,
            backend=url,
            environment={"BACKEND_KEY": BACKEND_KEY, "ADMIN_KEY": ADMIN_KEY},
            admin={"port": free_port(), "key": "env:ADMIN_KEY"},
            auth={"mode": "keys", "keys": str(tmp_path / "keys.db")},
            state={"ledger": str(tmp_path / "ledger.db")},
            decision_log={"path": str(tmp_path / "decisions.jsonl")},
            models=models,
        ) as running:
            yield running


def everything_said(gateway: GatewayProcess, token: str) -> list[tuple[str, str]]:
    """Answers, their headers and errors, pages and the admin's, each with what it was asked."""
    said: list[tuple[str, str]] = []
    headers = {"authorization": f"Bearer {token}", "x-canary": HEADER, "cookie": f"c={HEADER}"}

    def note(what: str, answer: httpx2.Response) -> None:
        said.append((what, f"{dict(answer.headers)}\n{answer.text}"))

    chat = f"{gateway.url}/v1/chat/completions"
    for word in ("", "401", "403", "400", "503", "break"):
        messages = [{"role": "user", "content": f"{PROMPT} {word}"}]
        for is_stream in (False, True):
            body: dict[str, Any] = {"model": "large", "messages": messages, "stream": is_stream}
            note(word or "plain", httpx2.post(chat, json=body, headers=headers, trust_env=False))
    for name, content in (
        ("no JSON", f'{{"model": {PROMPT}'),
        ("a wrong type", json.dumps({"model": "large", "messages": PROMPT})),
        ("no such flag", json.dumps({"model": "auto", "routing": {"x": 1}, "messages": [{}]})),
    ):
        note(name, httpx2.post(chat, content=content, headers=headers, trust_env=False))
    for path in ("/v1/models", "/metrics", "/health/ready", "/openapi.json", f"/{HEADER[:3]}", "/"):
        note(path, httpx2.get(gateway.url + path, headers=headers, trust_env=False))
    return said


def test_nothing_that_is_secret_comes_out_anywhere(
    gateway: GatewayProcess, tmp_path: Path, client_key: str
) -> None:
    models = f"{gateway.url}/v1/models"
    shown = {"authorization": f"Bearer {client_key}"}
    wait_until(lambda: httpx2.get(models, headers=shown, trust_env=False).status_code == 200)
    said = everything_said(gateway, client_key)
    assert any(ANSWER in text for _, text in said), "who asks is answered"
    secrets = (
        BACKEND_KEY,
        ADMIN_KEY,
        client_key,
        client_key.rpartition("-")[2],
        HEADER,
        BACKENDS_OWN,
    )
    leaked = [(what, secret) for what, text in said for secret in secrets if secret in text]
    assert leaked == []

    gateway.process.terminate()
    gateway.process.wait(20)
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        ledger = str(db.execute("SELECT * FROM requests").fetchall())
    db.close()
    assert ledger.count("'pool'") >= 10
    kept = {
        "the log": gateway.log.read_text(),
        "the decision log": (tmp_path / "decisions.jsonl").read_text(),
        "the ledger": ledger,
    }
    hidden = (*secrets, PROMPT, ANSWER)
    assert [(where, s) for where, text in kept.items() for s in hidden if s in text] == []


TOO_MUCH = {
    "deep": (b"[" * 200_000, 400),
    "deep in a field": (b'{"model":"large","messages":' + b'[{"role":' * 100_000, 400),
    "large": (b'{"model":"large","messages":[{"content":"' + b"a" * 5_000_000 + b'"}]}', 413),
    "not an array": (b'{"model":"large","model":"large","messages":"x"}', 400),
    "a huge number": (b'{"model":"large","max_tokens":' + b"9" * 100_000 + b',"messages":[]}', 400),
    "utf-16": ('{"model":"large","messages":[]}'.encode("utf-16"), 400),
    "NaN": (b'{"model":"large","temperature":NaN,"messages":[]}', 400),
}


def test_what_is_too_much_is_refused_as_such(gateway: GatewayProcess, client_key: str) -> None:
    headers = {"authorization": f"Bearer {client_key}", "content-type": "application/json"}
    models = f"{gateway.url}/v1/models"
    wait_until(lambda: httpx2.get(models, headers=headers, trust_env=False).status_code == 200)
    for name, (body, status) in TOO_MUCH.items():
        url = f"{gateway.url}/v1/chat/completions"
        answer = httpx2.post(url, content=body, headers=headers, trust_env=False, timeout=10)
        assert answer.status_code == status, (name, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error", name
        assert len(answer.content) < 1_000, f"{name}: an error quotes little of what was sent"
    assert "Traceback" not in gateway.log.read_text()


def test_nothing_but_health_and_metrics_answers_without_a_key(gateway: GatewayProcess) -> None:
    """Every route of the page, and a host that pretends to be a path (BadHost, CVE-2026-48710)."""
    page = httpx2.get(f"{gateway.url}/openapi.json", trust_env=False).json()
    for path, methods in page["paths"].items():
        for method in methods:
            answer = httpx2.request(
                method, gateway.url + path.replace("{", "").replace("}", ""), trust_env=False
            )
            is_open = path.startswith(("/health", "/metrics", "/console"))
            assert is_open or answer.status_code in {401, 404, 405, 422}, (method, path)
            assert not path.startswith("/v1") or answer.status_code == 401, (method, path)
    for host in (b"x/health/live?", b"x/metrics#", b"health"):
        with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
            raw.sendall(b"GET /v1/models HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % host)
            assert raw.recv(65536).split()[1] in {b"401", b"400"}
