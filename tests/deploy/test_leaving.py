"""A gateway that is told to end turns balancers away first, and whoever comes meanwhile is answered."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest
import yaml

from tests.deploy.gateway_process import GatewayProcess, running_gateway
from tests.deploy.test_reload import wait_until

ASK = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}


def ready(gateway: GatewayProcess) -> int:
    return httpx2.get(f"{gateway.url}/health/ready", trust_env=False, timeout=5).status_code


def server(**more: object) -> dict[str, object]:
    return {"notice_s": 2, "drain_s": 10, **more}


def test_it_is_not_ready_at_once_and_serves_until_its_notice_is_over(tmp_path: Path) -> None:
    with running_gateway(tmp_path, server_settings=server()) as gateway:
        client = httpx2.Client(trust_env=False, timeout=10)
        url = f"{gateway.url}/v1/chat/completions"
        assert "connection" not in client.post(url, json=ASK).headers, "kept while all is well"
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(gateway.ask("Hi").status_code)

        asker = threading.Thread(target=ask)
        asker.start()
        wait_until(lambda: len(statuses) > 5)
        told_at = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ready(gateway) == 503, limit_s=1)
        answer = client.post(url, json=ASK)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        before = len(statuses)
        wait_until(lambda: len(statuses) > before + 5, limit_s=1.5)
        stop.set()
        asker.join(10)
        assert set(statuses) == {200}
        gateway.process.wait(10)
        assert 1.9 < time.monotonic() - told_at < 8


def test_a_stream_that_began_in_the_notice_ends_whole(tmp_path: Path) -> None:
    with running_gateway(tmp_path, server_settings=server(notice_s=1)) as gateway:
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ready(gateway) == 503, limit_s=1)
        body = {**ASK, "stream": True, "messages": [{"role": "user", "content": "slow 3"}]}
        url = f"{gateway.url}/v1/chat/completions"
        with httpx2.stream("POST", url, json=body, trust_env=False, timeout=20) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        with (
            pytest.raises(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", gateway.port), 1),
        ):
            pass
        gateway.process.wait(10)
        rows = [json.loads(line) for line in gateway.log.read_text().splitlines()]
        assert [r["outcome"] for r in rows if r["logger"] == "thalamus.requests"] == ["ok"]


def test_a_second_signal_ends_the_notice(tmp_path: Path) -> None:
    with running_gateway(tmp_path, server_settings=server(notice_s=60)) as gateway:
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ready(gateway) == 503, limit_s=2)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(10)


def test_a_replaced_configuration_is_taken_up_by_itself(tmp_path: Path) -> None:
    """As the kubelet replaces a ConfigMap: a link to a new folder is renamed over the old one."""
    with running_gateway(tmp_path, server_settings=server(watch_config=True)) as gateway:
        config = tmp_path / "thalamus.yaml"
        document = yaml.safe_load(config.read_text())
        assert gateway.ask("Hi").headers["x-routing-model"] == "large"

        def replace(number: int, content: str) -> None:
            folder = tmp_path / f"..{number}"
            folder.mkdir()
            (folder / "thalamus.yaml").write_text(content)
            if not config.is_symlink():
                config.unlink()
                config.symlink_to("..data/thalamus.yaml")
            (tmp_path / "..next").symlink_to(folder.name)
            (tmp_path / "..next").rename(tmp_path / "..data")

        document["models"]["large"]["quality_prior"] = 0.1
        replace(1, yaml.safe_dump(document))
        wait_until(lambda: gateway.ask("Hi").headers["x-routing-model"] == "small")
        replace(2, yaml.safe_dump({**document, "colour": "red"}))
        wait_until(lambda: "colour: unknown key" in gateway.log.read_text())
        assert gateway.ask("Hi").headers["x-routing-model"] == "small"
        document["models"]["large"]["quality_prior"] = 0.9
        replace(3, yaml.safe_dump(document))
        wait_until(lambda: gateway.ask("Hi").headers["x-routing-model"] == "large")
        assert gateway.metric("thalamus_config_reloads_total") == 3
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.send_signal(signal.SIGTERM)
