"""The gateways that are measured: this one, and those of others that are found on the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gateway
from gateway.errors import ConfigError

#: One for the gateway, two for the backends behind it, one for a peer's own metrics or another gateway.
PORT = int(os.environ.get("THALAMUS_BENCH_PORT", "9200"))
BACKEND_PORTS = (PORT + 1, PORT + 2)
METRICS_PORT = PORT + 3
OURS = "thalamus"
DIRECT = "no gateway"
#: Where ``make bench`` says to install peers from PyPI.
PEERS_FOLDER = Path(".venv.peers/bin")

_CONFIG = """\
server: {{host: 127.0.0.1, port: {port}, workers: {workers}}}
router: {{artifact: default}}
models:
  mock:
    backends: [{{url: "http://127.0.0.1:{first}/v1"}}, {{url: "http://127.0.0.1:{second}/v1"}}]
    price_usd_per_mtok: {{input: 0.1, output: 0.4}}
    parameters_b: 30
  mock-small:
    backends: [{{url: "http://127.0.0.1:{second}/v1"}}]
    price_usd_per_mtok: {{input: 0.02, output: 0.08}}
    parameters_b: 8
"""
_NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  keepalive_requests 100000000;
  client_max_body_size 8m;
  upstream backends {{
    server 127.0.0.1:{first};
    server 127.0.0.1:{second};
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://backends;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      client_body_buffer_size 2m;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """``command`` listens on ``port`` and forwards to ``BACKEND_PORTS``; () for none."""

    name: str
    version: str
    command: tuple[str, ...]
    port: int = PORT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"


def find_tool(name: str, remedy: str) -> str:
    """Path of a program. Raises ConfigError with what to install."""
    found = _which(name)
    if found is None:
        raise ConfigError(f"{name} was not found; {remedy}")
    return found


def _which(name: str) -> str | None:
    beside = PEERS_FOLDER / name
    for place in (shutil.which(name), f"/usr/sbin/{name}", str(beside.absolute())):
        if place is not None and Path(place).is_file():
            return place
    return None


def ourselves(folder: Path, workers: int = 1, port: int = PORT) -> Peer:
    config = folder / f"thalamus-{workers}-{port}.yaml"
    first, second = BACKEND_PORTS
    config.write_text(_CONFIG.format(port=port, workers=workers, first=first, second=second))
    command = (sys.executable, "-m", "gateway.cli", "serve", "--config", str(config))
    version = f"{gateway.__version__}, Python {platform.python_version()}"
    return Peer(OURS, version, command, port)


def find_peers(folder: Path) -> list[Peer]:
    """The backend itself, this gateway, and whichever others are installed."""
    found = [Peer(DIRECT, "", (), BACKEND_PORTS[0]), ourselves(folder)]
    router = _which("vllm-router")
    if router is not None:
        backends = [f"http://127.0.0.1:{port}" for port in BACKEND_PORTS]
        command = (
            *(router, "--host", "127.0.0.1", "--port", str(PORT), "--worker-urls", *backends),
            *("--policy", "round_robin", "--prometheus-port", str(METRICS_PORT)),
            *("--log-level", "error"),
        )
        asks = "import importlib.metadata as m; print(m.version('vllm-router'))"
        python = str(Path(router).with_name("python"))
        found.append(Peer("vllm-router", _told([python, "-c", asks]), command))
    nginx = _which("nginx")
    if nginx is not None:
        config = folder / "nginx.conf"
        first, second = BACKEND_PORTS
        config.write_text(_NGINX.format(folder=folder, port=PORT, first=first, second=second))
        version = _told([nginx, "-v"]).rpartition("/")[2]
        found.append(Peer("nginx", version, (nginx, "-c", str(config))))
    return found


def _told(command: Sequence[str]) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return (answer.stdout or answer.stderr).strip()
