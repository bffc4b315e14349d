"""vLLM servers and a gateway in front of them, each a process of its own on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.demo_process import free_port

THALAMUS = Path(sys.executable).with_name("thalamus")
QUIET = {
    "VLLM_HOST_IP": "127.0.0.1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


@dataclass
class Server:
    """A process that serves HTTP and can be ended and started again on its port."""

    command: list[str | Path]
    port: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env={**os.environ, **self.environment},
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def wait_until_ready(self, limit_s: float = 240) -> None:
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                if (
                    httpx2.get(self.url + self.health, trust_env=False, timeout=2).status_code
                    == 200
                ):
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.3)
        raise AssertionError(self.log.read_text()[-4000:])

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Signal the whole group: vLLM's engine and worker are children."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            self.process.wait(30)

    def metric(self, name: str) -> float:
        """The sum of all series of a metric."""
        text = httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=10).text
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def vllm_server(python: Path, model: Path, name: str, folder: Path, *flags: str) -> Server:
    """``vllm serve`` of ``model`` as ``name``, small enough to have three of them."""
    port = free_port()
    command = [
        python.with_name("vllm"), "serve", model, "--served-model-name", name,
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16",
        "--max-model-len", "1024", "--max-num-seqs", "8", "--enforce-eager",
        "--kv-cache-memory-bytes", "128M", *flags,
    ]  # fmt: skip
    environment = {**QUIET, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    return Server(command, port, folder / f"{name}-{port}.log", environment)


@contextmanager
def gateway(folder: Path, models: Mapping[str, Any], **sections: Any) -> Iterator[Server]:
    """``thalamus serve`` over ``models``, as they stand in its configuration, with more of it."""
    port = free_port()
    settings = {
        "server": {"port": port, "drain_s": 20},
        "router": {"artifact": "none"},
        "models": dict(models),
        **sections,
    }
    config = folder / f"thalamus-{port}.yaml"
    config.write_text(yaml.safe_dump(settings))
    command: list[str | Path] = [THALAMUS, "serve", "--config", config]
    server = Server(command, port, folder / f"gateway-{port}.log", health="/health/ready")
    server.start()
    try:
        server.wait_until_ready(60)
        yield server
    finally:
        server.end()
