"""What the chart renders, run: probes, a rollout under load, a new configuration, keys in its Redis.

``pytest -m charts``; needs redis-server. tests/deploy/kubelet.py stands where the kubelet would.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from router_models.artifact import DEFAULT
from tests.demo_process import free_port
from tests.deploy.chart import gateway_config, one, pod, render
from tests.deploy.gateway_process import GatewayProcess, answering_backend
from tests.deploy.kubelet import Pod, running
from tests.deploy.test_reload import Operator, wait_until

pytestmark = [pytest.mark.charts, pytest.mark.timeout(180)]

MANIFEST = hashlib.sha256((DEFAULT / "manifest.json").read_bytes()).hexdigest()


def values(backend: str, **more: Any) -> dict[str, Any]:
    models = {
        name: {"backends": [{"url": backend, "name": f"{name}-pool"}], "quality_prior": quality}
        for name, quality in (("large", 0.9), ("small", 0.6))
    }
    return {"config": {"models": models}, **more}


class Service:
    """Sends to the pods that are ready by their own probe, as endpoints follow it."""

    def __init__(self, *pods: Pod) -> None:
        self._pods = pods
        self.endpoints = list(pods)
        self._turn = itertools.count()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._follow, daemon=True)
        self._watch.start()

    def _follow(self) -> None:
        while not self._stop.wait(3):  # the chart's period
            self.endpoints = [pod for pod in self._pods if pod.is_ready()] or self.endpoints

    def url(self) -> str:
        endpoints = self.endpoints
        return f"http://127.0.0.1:{endpoints[next(self._turn) % len(endpoints)].port}"

    def close(self) -> None:
        self._stop.set()
        self._watch.join()


def body(prompt: str) -> dict[str, Any]:
    return {"model": "auto", "stream": True, "messages": [{"role": "user", "content": prompt}]}


def asked(client: httpx2.Client, url: str, prompt: str) -> str:
    """How a stream ended: [DONE] where all is well."""
    try:
        with client.stream("POST", f"{url}/v1/chat/completions", json=body(prompt)) as answer:
            lines = [line for line in answer.iter_lines() if line]
    except httpx2.HTTPError as error:
        return repr(error)
    return lines[-1] if answer.status_code == 200 else f"{answer.status_code} {lines}"


def test_a_pod_leaves_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    """Long streams, and clients that keep their connections, while one pod of two is replaced."""
    with answering_backend() as backend:
        manifests = render(values(backend))
        pods = [Pod(tmp_path / name, manifests) for name in ("a", "b")]
        with running(pods[0]) as leaving, running(pods[1]):
            service = Service(*pods)
            ends: list[str] = []
            stop = threading.Event()

            def chat() -> None:
                with httpx2.Client(trust_env=False, timeout=60) as client:
                    while not stop.is_set():
                        ends.append(asked(client, service.url(), "Hi"))
                        time.sleep(0.02)

            def stream() -> None:
                with httpx2.Client(trust_env=False, timeout=60) as client:
                    ends.append(asked(client, f"http://127.0.0.1:{pods[0].port}", "slow 14"))

            askers = [threading.Thread(target=chat) for _ in range(4)]
            askers += [threading.Thread(target=stream) for _ in range(20)]
            for asker in askers:
                asker.start()
            wait_until(lambda: leaving.metric("thalamus_inflight") >= 20)
            told_s = time.monotonic()
            leaving.process.terminate()
            leaving.process.wait(pod(manifests)["terminationGracePeriodSeconds"])
            took_s = time.monotonic() - told_s
            time.sleep(1)
            stop.set()
            for asker in askers:
                asker.join(30)
            service.close()
        assert set(ends) == {"data: [DONE]"}, set(ends)
        assert len(ends) > 100
        assert took_s > 11, "the streams went on when it had stopped listening"
        lines = [json.loads(line) for line in leaving.log.read_text().splitlines()]
        outcomes = {r["outcome"] for r in lines if r["logger"] == "thalamus.requests"}
        assert outcomes == {"ok"}


def test_helm_test_passes_and_a_new_configmap_is_taken_up(tmp_path: Path) -> None:
    with answering_backend() as backend:
        given = values(backend, admin={"secret": "operators", "port": free_port()})
        given["router"] = {
            "copyFrom": {"image": "routers:7", "path": str(DEFAULT)},
            "sha256": MANIFEST,
        }
        manifests = render(given)
        node = Pod(tmp_path, manifests, {"operators": "an-admin-key"})
        with running(node) as gateway:
            told = try_it(manifests, gateway)
            assert "auto would ask" in told.stdout, told.stderr
            operator = Operator(given["admin"]["port"])
            config = operator.ask("GET", "/config").json()["config"]
            assert config["router"]["artifact"] == node.here("/var/lib/thalamus-router")

            version = gateway.ask("Hi").headers["x-routing-policy-version"]
            given["config"]["models"]["small"]["quality_prior"] = 0.99
            node.project_config(gateway_config(render(given)))
            wait_until(lambda: gateway.ask("Hi").headers["x-routing-policy-version"] != version)
            given["router"]["sha256"] = "0" * 64
            node.project_config(gateway_config(render(given)))
            wait_until(lambda: "router.sha256" in gateway.log.read_text())
            assert gateway.ask("Hi").status_code == 200


def try_it(
    manifests: list[dict[str, Any]], gateway: GatewayProcess, key: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run what the test pod runs."""
    (tester,) = one(manifests, "Pod")["spec"]["containers"]
    program, *words = tester["command"]
    assert program == "python"
    script, url = tester["args"]
    assert url == "http://llm-thalamus:80"
    command = [sys.executable, *words, script, gateway.url]
    environment = {"THALAMUS_KEY": key} if key else {}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_without_models_the_embedded_ones_answer_by_the_rest_of_the_configuration(
    tmp_path: Path,
) -> None:
    given: dict[str, Any] = {
        "config": {"server": {"max_inflight": 7}},
        "admin": {"secret": "operators"},
    }
    given["admin"]["port"] = port = free_port()
    manifests = render(given)
    node = Pod(tmp_path, manifests, {"operators": "an-admin-key"})
    with running(node) as gateway:
        assert gateway.ask("What is 2 + 3?", max_tokens=4).status_code == 200
        assert try_it(manifests, gateway).returncode == 0
        server = Operator(port).ask("GET", "/config").json()["config"]["server"]
        assert (server["max_inflight"], server["notice_s"]) == (7, 10)
        given["config"]["policies"] = {"live": {"objective": "cheap"}}
        node.project_config(gateway_config(render(given)))
        wait_until(lambda: gateway.metric("thalamus_config_reloads_total") == 1)
        assert gateway.ask("Hi", max_tokens=2).headers["x-routing-profile"] == "cheap"


def test_keys_count_together_in_the_bundled_redis(tmp_path: Path) -> None:
    port = free_port()
    secrets = {"cache": "a-password"}
    with answering_backend() as backend:
        given = values(backend, redis={"enabled": True, "password": {"secret": "cache"}})
        given["config"]["auth"] = {"mode": "keys"}
        given["config"]["state"] = {"command_ms": 2000}
        manifests = render(given)
        (server,) = one(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
        words = [
            w.replace("/data", str(tmp_path)).replace("$(REDIS_PASSWORD)", "a-password")
            for w in server["args"]
        ]
        process = subprocess.Popen([*words, "--port", str(port), "--logfile", tmp_path / "redis"])
        try:
            client = redis.Redis(port=port, password="a-password")  # noqa: S106
            wait_until(lambda: answers(client))
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            moved = {"redis://llm-thalamus-redis:6379": f"redis://127.0.0.1:{port}"}
            pods = [Pod(tmp_path / n, manifests, secrets, moved) for n in ("a", "b")]
            with running(pods[0]) as first, running(pods[1]) as second:
                assert try_it(manifests, first).returncode == 1, "it asks for a key"
                token = new_key(pods[0])
                wait_until(lambda: first.ask("Hi", key=token).status_code == 200, limit_s=5)
                wait_until(lambda: second.ask("Hi", key=token).status_code != 401, limit_s=5)
                assert try_it(manifests, second, token).returncode == 0
                asked = [
                    g.ask("Hi", key=token).status_code for _ in range(15) for g in (first, second)
                ]
                assert 429 in asked
                assert 0 < asked.count(200) < 12
        finally:
            process.terminate()
            process.wait(10)


def new_key(node: Pod) -> str:
    """As an operator makes one: in the pod, where the password is."""
    config = node.here("/etc/thalamus") + "/thalamus.yaml"
    words = ("keys", "--config", config, "create", "ci", "--requests-per-minute", "12")
    thalamus = Path(sys.executable).with_name("thalamus")
    done = subprocess.run(
        [thalamus, *words], capture_output=True, text=True, check=True, env=node.environment()
    )
    return next(word for word in done.stdout.split() if word.startswith(("th-", "thal", "sk-")))


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
