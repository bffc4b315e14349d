"""The Ingress's annotations in a real nginx before a gateway: a stream passes as it comes.

``pytest -m charts``; needs nginx. What ingress-nginx makes of an annotation stands in _DIRECTIVES.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.demo_process import free_port
from tests.deploy.chart import MODELS, one, render
from tests.deploy.gateway_process import GatewayProcess, running_gateway
from tests.deploy.test_reload import wait_until

pytestmark = pytest.mark.charts

PREFIX = "nginx.ingress.kubernetes.io/"
#: Seconds where an annotation is a bare number of them.
_DIRECTIVES = {
    "proxy-buffering": "proxy_buffering {}",
    "proxy-request-buffering": "proxy_request_buffering {}",
    "proxy-read-timeout": "proxy_read_timeout {}s",
    "proxy-send-timeout": "proxy_send_timeout {}s",
    "proxy-next-upstream": "proxy_next_upstream {}",
    "proxy-body-size": "client_max_body_size {}",
}
_CONFIG = """\
user root;
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location {path} {{
      proxy_pass http://127.0.0.1:{gateway};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_ignore_headers X-Accel-Buffering;  # by which the gateway asks for the same
      {directives}
    }}
  }}
}}
"""


def annotations() -> dict[str, str]:
    values = {"config": {"models": MODELS}, "ingress": {"enabled": True, "hosts": ["x.org"]}}
    found: dict[str, str] = one(render(values), "Ingress")["metadata"]["annotations"]
    return found


@contextmanager
def nginx(folder: Path, gateway: GatewayProcess, told: Mapping[str, str]) -> Iterator[str]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    port = free_port()
    directives = [_DIRECTIVES[name.removeprefix(PREFIX)].format(v) for name, v in told.items()]
    folder.mkdir()
    config = _CONFIG.format(
        folder=folder,
        port=port,
        path="/v1",
        gateway=gateway.port,
        directives=" ".join(f"{directive};" for directive in directives),
    )
    (folder / "nginx.conf").write_text(config)
    process = subprocess.Popen([program, "-e", folder / "log", "-c", folder / "nginx.conf"])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/v1/models"))
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def first_and_last_s(url: str) -> tuple[float, float]:
    """When a stream's first event came, and when it ended."""
    began_s = time.monotonic()
    body = {
        "model": "auto",
        "stream": True,
        "messages": [{"role": "user", "content": "slow 2"}],
    }
    times = []
    with httpx2.stream(
        "POST", f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=20
    ) as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            times.append(time.monotonic() - began_s)
    assert [line for line in lines if line][-1] == "data: [DONE]"
    return times[0], times[-1]


def test_events_come_through_as_they_are_written(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        with nginx(tmp_path / "as-rendered", gateway, annotations()) as url:
            first_s, last_s = first_and_last_s(url)
            assert last_s > 2
            assert first_s < last_s - 1.5
            long = {"model": "auto", "messages": [{"role": "user", "content": "a" * 2**21}]}
            assert httpx2.post(f"{url}/v1/chat/completions", json=long, trust_env=False).is_success
            for hidden in ("/metrics", "/health/ready", "/admin/config", "/console/"):
                assert httpx2.get(f"{url}{hidden}", trust_env=False).status_code == 404
        with nginx(tmp_path / "bare", gateway, {}) as url:
            refused = httpx2.post(f"{url}/v1/chat/completions", json=long, trust_env=False)
            assert refused.status_code == 413, "nginx by itself takes a megabyte"


def test_the_longest_stream_is_shorter_than_nginx_waits() -> None:
    waits_s = int(annotations()[f"{PREFIX}proxy-read-timeout"])
    assert waits_s > 600
    assert set(annotations()) == {f"{PREFIX}{name}" for name in _DIRECTIVES}
