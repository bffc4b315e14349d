"""The configuration changes while the gateway runs, and nothing under way notices."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.demo_process import free_port
from tests.deploy.gateway_process import running_gateway

ADMIN_KEY = "an-admin-key"


def admin(folder: Path) -> dict[str, Any]:
    key = folder / "admin.key"
    key.write_text(ADMIN_KEY + "\n")
    return {"port": free_port(), "key": f"file:{key}"}


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the configuration's file as an operator would."""
    path = folder / "thalamus.yaml"
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))


def wait_until(holds: Callable[[], bool], limit_s: float = 20) -> None:
    deadline_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_reloads_under_load_lose_nothing(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        outcomes: list[tuple[int, bool]] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answer = gateway.ask("Hi", stream=True)
                outcomes.append((answer.status_code, answer.text.endswith("data: [DONE]\n\n")))

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            for reload in range(1, 11):
                rewrite(tmp_path, lambda d: d["models"]["large"].update(quality_prior=0.8))
                gateway.process.send_signal(signal.SIGHUP)
                wait_until(lambda: gateway.metric("thalamus_config_reloads_total") == reload)  # noqa: B023
                wait_until(lambda: len(outcomes) > 10 * reload)  # noqa: B023
        finally:
            stop.set()
            for asker in askers:
                asker.join(20)
        assert set(outcomes) == {(200, True)}
        wait_until(lambda: gateway.metric("thalamus_requests_total") == len(outcomes))
        assert gateway.metric("thalamus_inflight") == 0
        wait_until(lambda: gateway.metric("thalamus_open_files") < 60)


def test_a_new_model_is_served_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        before = gateway.ask("Hi").headers["x-routing-policy-version"]

        def add(document: dict[str, Any]) -> None:
            document["models"]["newest"] = {**document["models"]["large"], "quality_prior": 0.99}

        rewrite(tmp_path, add)
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: gateway.ask("Hi").headers["x-routing-model"] == "newest")
        after = gateway.ask("Hi").headers["x-routing-policy-version"]
        assert after != before

        rewrite(tmp_path, lambda d: d["models"]["newest"].update(qualty_prior=0.5))
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "newest.qualty_prior: unknown key" in gateway.log.read_text())
        answer = gateway.ask("Hi")
        assert answer.headers["x-routing-model"] == "newest"
        assert answer.headers["x-routing-policy-version"] == after


def test_a_stream_under_way_ends_on_the_model_that_is_gone(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        body = {"model": "large", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        url = f"{gateway.url}/v1/chat/completions"
        with httpx2.stream("POST", url, json=body, trust_env=False, timeout=10) as answer:
            lines = answer.iter_lines()
            next(lines)
            rewrite(tmp_path, lambda d: d["models"].pop("large"))
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda: gateway.ask("Hi", model="large").status_code == 404)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert (
            'backend_up{backend="big-pool",model="large"} NaN'
            in httpx2.get(f"{gateway.url}/metrics", trust_env=False).text
        )


class Operator:
    """Somebody who holds a key and asks a port."""

    def __init__(self, port: int, key: str = ADMIN_KEY) -> None:
        self.port = port
        self._headers = {"authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        url = f"http://127.0.0.1:{self.port}/admin{path}"
        return httpx2.request(method, url, headers=self._headers, trust_env=False, **more)


def test_the_admin_port_changes_what_runs(tmp_path: Path) -> None:
    section = admin(tmp_path)
    with running_gateway(tmp_path, admin=section) as gateway:
        operator = Operator(section["port"])
        told = operator.ask("GET", "/config").json()
        assert told["config"]["admin"]["key"] == "***"
        assert told["config"]["timeouts"]["connect_s"] == 2.0, "defaults are told too"
        assert ADMIN_KEY not in operator.ask("GET", "/config").text

        rewrite(tmp_path, lambda d: d["models"]["large"].update(quality_prior=0.1))
        answer = operator.ask("POST", "/reload")
        assert answer.json()["policy_version"] != told["policy_version"]
        assert gateway.ask("Hi").headers["x-routing-model"] == "small"
        rewrite(tmp_path, lambda d: d["models"].clear())
        answer = operator.ask("POST", "/reload")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_config")
        assert "models: " in answer.json()["error"]["message"]

        assert operator.ask("POST", "/backends/small-pool/drain").json()["drained"]
        assert gateway.ask("Hi").headers["x-routing-model"] == "large"
        listed = operator.ask("GET", "/backends").json()["backends"]
        assert {b["backend"]: b["usable"] for b in listed} == {
            "big-pool": True,
            "small-pool": False,
        }
        assert not operator.ask("POST", "/backends/small-pool/undrain").json()["drained"]
        assert gateway.ask("Hi").headers["x-routing-model"] == "small"
        assert operator.ask("POST", "/backends/nobody/drain").status_code == 404

        assert operator.ask("POST", "/drain").json()["draining"]
        ready = f"{gateway.url}/health/ready"
        assert httpx2.get(ready, trust_env=False).status_code == 503
        assert gateway.ask("Hi").status_code == 200, "who still comes is answered"
        operator.ask("POST", "/undrain")
        assert httpx2.get(ready, trust_env=False).status_code == 200


def test_the_admin_port_wants_its_own_key_and_is_no_part_of_the_api(tmp_path: Path) -> None:
    section = admin(tmp_path)
    with running_gateway(tmp_path, admin=section) as gateway:
        for stranger in (
            Operator(section["port"], key="x"),
            Operator(gateway.port),
        ):
            for method, path in (
                ("GET", "/config"),
                ("POST", "/reload"),
                ("POST", "/drain"),
                ("GET", "/keys"),
                ("POST", "/keys"),
                ("DELETE", "/keys/x"),
                ("GET", "/backends"),
                ("POST", "/backends/big-pool/drain"),
            ):
                expected = 401 if stranger.port == section["port"] else 404
                answer = stranger.ask(method, path)
                assert answer.status_code == expected, (method, path)
                assert answer.json()["error"]["message"]
        assert gateway.ask("Hi").status_code == 200
        operator = Operator(section["port"])
        answer = operator.ask("GET", "/keys")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_keys")


def test_keys_are_made_listed_and_revoked_there(tmp_path: Path) -> None:
    section = admin(tmp_path)
    auth = {"mode": "keys", "keys": str(tmp_path / "keys.db")}
    with running_gateway(tmp_path, admin=section, auth=auth) as gateway:
        operator = Operator(section["port"])
        policy = {"allow": ["small"], "requests_per_minute": 100}
        made = operator.ask("POST", "/keys", json={"name": "ci", "policy": policy})
        assert made.status_code == 201
        token, key_id = made.json()["key"], made.json()["id"]
        headers = {"authorization": f"Bearer {token}"}

        def status() -> int:
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
            url = f"{gateway.url}/v1/chat/completions"
            return httpx2.post(url, json=body, headers=headers, trust_env=False).status_code

        wait_until(lambda: status() == 200, limit_s=3)
        (listed,) = operator.ask("GET", "/keys").json()["keys"]
        assert (listed["id"], listed["state"], listed["name"]) == (key_id, "active", "ci")
        assert token not in operator.ask("GET", "/keys").text
        # A reload keeps what keys have used.
        operator.ask("POST", "/reload")
        assert status() == 200
        assert operator.ask("DELETE", f"/keys/{key_id}").status_code == 204
        wait_until(lambda: status() == 401, limit_s=3)
        assert operator.ask("DELETE", f"/keys/{key_id}x").status_code == 404
        wrong = operator.ask("POST", "/keys", json={"name": "x", "policy": {"alow": []}})
        assert wrong.status_code == 400
        assert "alow" in wrong.json()["error"]["message"]
