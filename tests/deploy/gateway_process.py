"""A gateway as a process of its own, in front of backends that answer at once."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.demo_process import free_port
from tests.fakes.backend import (
    STREAM_HEAD,
    WHOLE,
    Act,
    Connection,
    chunked,
    completion,
    event,
    scripted_backend,
)

THALAMUS = Path(sys.executable).with_name("thalamus")
MODELS = ("large", "small")


#: What a vLLM server with our experts says of itself.
VLLM_PAGE = """\
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.4
thalamus_moe_calls_total{layer="0",worker="0"} 10.0
thalamus_moe_tokens_total{layer="0",worker="0"} 50.0
thalamus_moe_slots_total{layer="0",worker="0"} 100.0
thalamus_moe_slots_not_computed_total{layer="0",worker="0"} 25.0
thalamus_moe_distinct_experts_total{layer="0",worker="0"} 40.0
thalamus_moe_busiest_expert_share{layer="0",worker="0"} 0.25
"""


#: What grows with every request, as long as those of the fake.
COUNTED = {
    "vllm:prompt_tokens_total": 10,
    "vllm:generation_tokens_total": 4,
    "vllm:prefix_cache_queries_total": 10,
    "vllm:prefix_cache_hits_total": 6,
    "vllm:num_preemptions_total": 0.25,
    "vllm:request_queue_time_seconds_sum": 0.5,
    "vllm:request_queue_time_seconds_count": 1,
}
#: How vLLM called before what it calls otherwise now.
FORMERLY = {
    "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
    "vllm:prefix_cache_": "vllm:gpu_prefix_cache_",
}


def page_after(requests: int, *, is_old: bool = False) -> str:
    """What it says of itself when it has answered so many; an old one in its own words."""
    labels = '{engine="0",model_name="m"}'
    page = VLLM_PAGE + "".join(f"{name}{labels} {n * requests}\n" for name, n in COUNTED.items())
    for name, former in FORMERLY.items() if is_old else ():
        page = page.replace(name, former)
    return page


async def _answers(connection: Connection) -> None:
    """A stream where a stream is asked for; prompts that begin with a word of command break it.

    ``slow N`` pauses for N seconds within it.
    """
    prompt = str(connection.request.body["messages"][-1]["content"])
    if prompt.startswith("refuse") and connection.request.body["model"] == "large":
        await connection.write(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")
    elif not connection.request.body.get("stream"):
        await connection.write(completion())
    elif prompt.startswith("break"):
        await connection.write(STREAM_HEAD + chunked(event("a")))
        connection.reset()
    else:
        await connection.write(STREAM_HEAD + chunked(event("a")))
        await asyncio.sleep(float(prompt[5:]) if prompt.startswith("slow ") else 0.02)
        await connection.write(chunked(*WHOLE[1:]) + b"0\r\n\r\n")


@contextmanager
def answering_backend(act: Act = _answers, *, is_old: bool = False) -> Iterator[str]:
    """The URL of a backend that lives in a thread of its own and does ``act`` for every request.

    ``is_old``: its metrics are called as vLLM's once were.
    """
    ready, stop = threading.Event(), asyncio.Event()
    found: dict[str, Any] = {}

    async def live() -> None:
        async with scripted_backend() as backend:
            asked = itertools.count(1)

            async def counted(connection: Connection) -> None:
                backend.metrics = page_after(next(asked), is_old=is_old)
                await act(connection)

            backend.will(counted)
            backend.metrics = page_after(0, is_old=is_old)
            found.update(url=backend.url, loop=asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield found["url"]
    finally:
        found["loop"].call_soon_threadsafe(stop.set)
        thread.join(10)


@dataclass(frozen=True)
class GatewayProcess:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, prompt: str, key: str = "", **fields: Any) -> httpx2.Response:
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], **fields}
        url = f"{self.url}/v1/chat/completions"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.post(url, json=body, headers=headers, trust_env=False, timeout=10)

    def score(self, request_id: str, score: float, key: str = "") -> httpx2.Response:
        body = {"request_id": request_id, "score": score}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = f"{self.url}/v1/feedback"
        return httpx2.post(url, json=body, headers=headers, trust_env=False, timeout=10)

    def metric(self, name: str) -> float:
        """The sum of all series of a metric."""
        text = httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=10).text
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def wait_until_ready(self, limit_s: float = 60) -> None:
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, self.log.read_text()
            try:
                answer = httpx2.get(f"{self.url}/health/ready", trust_env=False, timeout=2)
                if answer.status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())


def settings(backend: str, port: int, workers: int) -> dict[str, Any]:
    return {
        "server": {"port": port, "workers": workers, "drain_s": 1},
        "router": {"artifact": "none"},
        "models": {
            "large": {
                "backends": [{"url": backend, "name": "big-pool"}],
                "price_usd_per_mtok": {"input": 2.0, "output": 8.0, "cached_input": 0.5},
                "quality_prior": 0.9,
            },
            "small": {
                "backends": [{"url": backend, "name": "small-pool"}],
                "price_usd_per_mtok": {"input": 0.1, "output": 0.4},
                "quality_prior": 0.6,
            },
        },
    }


@contextmanager
def running_gateway(
    folder: Path,
    workers: int = 1,
    *,
    backend: str | None = None,
    server_settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
    **more: Any,
) -> Iterator[GatewayProcess]:
    """Start ``thalamus serve`` and end it, workers and all.

    ``under`` is a command that starts another one, as ``prlimit`` does; without ``backend`` it gets
    one that answers at once.
    """
    with ExitStack() as stack:
        url = backend or stack.enter_context(answering_backend())
        port = free_port()
        config = folder / "thalamus.yaml"
        document = {**settings(url, port, workers), **more}
        document["server"] |= server_settings or {}
        config.write_text(yaml.safe_dump(document))
        log = folder / "gateway.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*under, THALAMUS, "serve", "--config", config],
                stderr=sink,
                stdout=sink,
                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(environment or {})},
            )
        try:
            gateway = GatewayProcess(process, port, log)
            gateway.wait_until_ready()
            yield gateway
        finally:
            process.send_signal(signal.SIGCONT)  # one that a test has stopped
            process.send_signal(signal.SIGTERM)
            process.wait(20)
