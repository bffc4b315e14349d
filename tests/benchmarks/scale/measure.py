"""What one gateway process and one Redis use for a request, a chunk, an open stream, a poll.

Processor time is read of each process by itself, as ``thalamus bench`` does it, so that others on the
machine make a figure worse by what they push out of the caches, not by what they compute.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import redis
import yaml

from gateway.bench import streams
from gateway.bench.gauge import cpu_s, own_memory_kib
from gateway.bench.report import _machine as machine
from gateway.settings import State
from gateway.tenancy.keys import KeyPolicy, make_key
from gateway.tenancy.store import StoredKeys
from tests.demo_process import free_port

BENCH = Path(streams.__file__).parent
KEYED = Path(__file__).with_name("keyed.lua")
LUA = BENCH.parent / "tenancy/lua"
#: As reserve.lua takes them: rates, requests at once, budgets; none is ever reached.
LIMITS = (10**8, 10**12, 10**6, 10**15, 10**15)
SECONDS = 3
CROWD = 500
POLLED = 40
_RESULT = re.compile(r"JSON (\{.*\})")
Figures = dict[str, float]


@contextmanager
def process(words: list[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink, subprocess.Popen(words, stdout=sink, stderr=sink) as started:
        try:
            yield started
        finally:
            started.terminate()


@contextmanager
def gateway(
    folder: Path, backends: list[str], **more: Any
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A gateway with the default router in front of the backends; its URL and process."""
    port = free_port()
    models = {
        name: {"backends": [{"url": url} for url in backends], "price_usd_per_mtok": price}
        for name, price in (
            ("mock", {"input": 0.1, "output": 0.4}),
            ("mock-small", {"input": 0.02, "output": 0.08}),
        )
    }
    config = folder / f"thalamus-{port}.yaml"
    config.write_text(yaml.safe_dump({"server": {"port": port}, "models": models, **more}))
    words = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config)]
    with process([*words], folder / f"log-{port}") as started:
        url = f"http://127.0.0.1:{port}"
        ends_s = time.monotonic() + 60
        while True:
            try:
                if httpx2.get(f"{url}/health/ready", trust_env=False).status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            if time.monotonic() > ends_s or started.poll() is not None:
                raise RuntimeError((folder / f"log-{port}").read_text())
            time.sleep(0.1)
        yield url, started


@dataclass(frozen=True)
class RedisProcess:
    port: int
    client: redis.Redis
    pid: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@contextmanager
def redis_as_deployed(folder: Path) -> Iterator[RedisProcess]:
    """A redis-server that persists as the Helm chart's does."""
    port = free_port()
    folder.mkdir()
    words = ["redis-server", "--port", str(port), "--dir", folder, "--appendonly", "yes"]
    with process([*words, "--save", ""], folder / "log") as started:
        client = redis.Redis(port=port)
        while True:
            try:
                client.ping()
                break
            except redis.RedisError:
                assert started.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield RedisProcess(port, client, started.pid)


def wrk(
    url: str,
    pids: list[int],
    *words: str,
    script: Path,
    at_once: int = 64,
    environment: Mapping[str, str] | None = None,
) -> list[float]:
    """µs of processor time a request of each process, then the requests done."""
    before = [cpu_s(pid) for pid in pids]
    command = ["wrk", "-t1", f"-c{at_once}", f"-d{SECONDS}s", "--timeout", "20s", "-s", str(script)]
    told = subprocess.run(
        [*command, f"{url}/v1/chat/completions", "--", *words],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], **(environment or {})},
    ).stdout
    found = _RESULT.search(told)
    assert found, told
    counts = json.loads(found[1])
    assert counts["non2xx"] + counts["err"] == 0, counts
    spent = [cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
    return [*(s / counts["requests"] * 1e6 for s in spent), counts["requests"]]


def requests(folder: Path, backend: str) -> Figures:
    """A request that is answered whole, by whether its ask was seen before; memory at rest."""
    with gateway(folder, [backend]) as (url, started):
        wrk(url, [started.pid], "mock", script=BENCH / "chat.lua")
        pinned, _ = wrk(url, [started.pid], "mock", script=BENCH / "chat.lua")
        new, _ = wrk(url, [started.pid], "auto", "new", script=BENCH / "chat.lua")
        return {"pinned_us": pinned, "new_us": new, "rest_mib": own_memory_kib(started.pid) / 1024}


def keyed(folder: Path, backend: str, server: RedisProcess) -> Figures:
    """What limits kept in Redis add to a request, at the gateway and at Redis."""
    state = State(url=server.url)
    tokens = []
    for name in ("limited", "unlimited"):
        limits = {"requests_per_minute": 10**8, "tokens_per_minute": 10**12} | (
            {"concurrency": 10**6, "budget_usd_per_day": 1e6, "budget_usd_per_month": 1e6}
        )
        token, key = make_key(name, KeyPolicy(**(limits if name == "limited" else {})), time.time())
        StoredKeys(state).add(key)
        tokens.append(token)
    more = {"auth": {"mode": "keys"}, "state": {"url": server.url, "command_ms": 2000}}
    found: Figures = {}
    with gateway(folder, [backend], **more) as (url, started):
        time.sleep(2.5)  # until the keys are known
        for name, token in zip(("limited", "unlimited"), tokens, strict=True):
            environment = {"CHAT_LUA": str(BENCH / "chat.lua"), "THALAMUS_KEY": token}
            pids = [started.pid, server.pid]
            wrk(url, pids, "mock", script=KEYED, environment=environment)
            before = server.client.info("all")
            ours, theirs, count = wrk(url, pids, "mock", script=KEYED, environment=environment)
            after = server.client.info("all")
            found |= {f"{name}_us": ours, f"{name}_redis_us": theirs}
            for said, figure in (
                ("total_net_input_bytes", "in_bytes"),
                ("total_net_output_bytes", "out_bytes"),
            ):
                found[f"{name}_{figure}"] = (after[said] - before[said]) / count
            calls = [
                info["cmdstat_evalsha"]["calls"] if "cmdstat_evalsha" in info else 0
                for info in (before, after)
            ]
            found[f"{name}_scripts"] = (calls[1] - calls[0]) / count
    return found


def scripts(server: RedisProcess) -> Figures:
    """Both scripts as many gateways send them: 50 connections, one command at a time on each."""
    found: Figures = {}
    names = [f"thalamus:{{__rand_int__}}:{name}" for name in ("meter", "holds", "lapsed", "spent")]
    period = ("2026-11-25", "2026-11")
    # What was not held here is settled once for each name: no two of a million are the same.
    for name, keys, words, different in (
        ("reserve", names, ["m:9:9", 9, 9, 60_000, *period, *LIMITS], 5_000),
        ("settle", [*names, "thalamus:{__rand_int__}:once"], ["", 9, 5, 9, *period, 10**6], 10**6),
    ):
        sha = server.client.script_load((LUA / f"{name}.lua").read_text())
        command = ["EVALSHA", sha, len(keys), *keys, *words]
        options = ("-p", server.port, "-c", 50, "-n", 40_000, "-r", different, "-q")
        before_s = cpu_s(server.pid)
        told = subprocess.run(
            [*map(str, ("redis-benchmark", *options, *command))],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "ERR" not in told.stdout + told.stderr, told
        found[f"{name}_redis_us"] = (cpu_s(server.pid) - before_s) / 40_000 * 1e6
    return found


def refreshes(server: RedisProcess) -> Figures:
    """A process looks every two seconds whether a key has changed, on a connection of its own."""
    book = StoredKeys(State(url=server.url))
    book.read()
    before_s, count = cpu_s(server.pid), 1500
    for _ in range(count):
        book.read()
    return {"refresh_redis_us": (cpu_s(server.pid) - before_s) / count * 1e6}


def key_memory(server: RedisProcess) -> Figures:
    """What Redis keeps for a key: its record, and its meter, holds and spending."""
    client, count = server.client, 2000
    before = client.info("memory")["used_memory"]
    book = StoredKeys(State(url=server.url))
    both = {
        name: client.register_script((LUA / f"{name}.lua").read_text())
        for name in ("reserve", "settle")
    }
    for _ in range(count):
        _, key = make_key("k", KeyPolicy(requests_per_minute=1000, concurrency=50), time.time())
        book.add(key)
        names = [f"thalamus:{{{key.id}}}:{n}" for n in ("meter", "holds", "lapsed", "spent")]
        period = ("2026-11-25", "2026-11")
        both["reserve"](keys=names, args=["m:9:9", 9, 9, 60_000, *period, *LIMITS])
        settled = [*names, f"thalamus:{{{key.id}}}:once:x"]
        both["settle"](keys=settled, args=["m:9:9", 9, 0, 9, *period, 10**6])
    return {"key_bytes": (client.info("memory")["used_memory"] - before) / count}


def open_streams(folder: Path, backend: str) -> Figures:
    """Streams that are open together: memory, files and connections each, and µs a chunk."""
    httpx2.get(f"{backend.removesuffix('/v1')}/__set?chunks=30&interval_us=200000", trust_env=False)
    with gateway(folder, [backend]) as (url, started):
        before_kib, before_s = own_memory_kib(started.pid), cpu_s(started.pid)
        files = len(os.listdir(f"/proc/{started.pid}/fd"))
        words = [sys.executable, "-m", "gateway.bench.streams", "streams"]
        options = [f"--streams={CROWD}", f"--concurrency={CROWD}"]
        with subprocess.Popen(
            [*words, f"{url}/v1/chat/completions", "mock", *options], stdout=subprocess.PIPE
        ) as clients:
            time.sleep(4)
            open_kib = own_memory_kib(started.pid) - before_kib
            open_files = len(os.listdir(f"/proc/{started.pid}/fd")) - files
            told = json.loads(clients.communicate(timeout=90)[0])
        assert (told["done"], told["bad"]) == (CROWD, 0), told
        spent_s = cpu_s(started.pid) - before_s
        return {
            "stream_kib": open_kib / CROWD,
            "stream_files": open_files / CROWD,
            "chunk_us": spent_s / told["chunks"] * 1e6,
        }


def _page(kilobytes: int) -> bytes:
    """As vLLM's: a few gauges among histograms by model and engine."""
    lines = [
        'vllm:num_requests_running{engine="0",model_name="mock"} 3.0',
        'vllm:num_requests_waiting{engine="0",model_name="mock"} 0.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="mock"} 0.4',
    ]
    bucket = 'vllm:e2e_request_latency_seconds_bucket{engine="0",le="%d",model_name="mock"} 7.0'
    while sum(map(len, lines)) < kilobytes * 1000:
        lines.append(bucket % len(lines))
    return ("\n".join(lines) + "\n").encode()


@contextmanager
def metrics_pages(count: int, page: bytes) -> Iterator[list[str]]:
    """Servers that say their load, in a thread; their URLs."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
    listing = b'{"object":"list","data":[{"id":"mock"},{"id":"mock-small"}]}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                body = page if b"/metrics" in asked else listing
                writer.write(head % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    ready, urls = threading.Event(), []
    loop = asyncio.new_event_loop()

    async def listen() -> None:
        for _ in range(count):
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        ready.set()

    asyncio.run_coroutine_threadsafe(listen(), loop)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield urls
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def polls(folder: Path) -> Figures:
    """What watching one backend costs the gateway, a second; and what its own page weighs."""
    found: Figures = {}
    with metrics_pages(POLLED, _page(40)) as urls:
        spent = []
        for watched in (urls, urls[:1]):
            with gateway(folder, watched) as (url, started):
                time.sleep(2)
                before_s = cpu_s(started.pid)
                time.sleep(8)
                spent.append((cpu_s(started.pid) - before_s) / 8)
                page = httpx2.get(f"{url}/metrics", trust_env=False).text
                series = sum(not line.startswith("#") for line in page.splitlines())
                found[f"series_of_{len(watched)}"] = series
        found["poll_us"] = (spent[0] - spent[1]) / (POLLED - 1) * 1e6
    most, least = found.pop(f"series_of_{POLLED}"), found.pop("series_of_1")
    # Two models are served by each backend here.
    found["series_a_backend"] = (most - least) / (POLLED - 1) / 2
    found["series"] = least - 2 * found["series_a_backend"]
    return found


def measure() -> dict[str, Any]:
    """Every figure, and where it was taken."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        subprocess.run(["cc", "-O2", "-o", folder / "backend", BENCH / "backend.c"], check=True)
        port = free_port()
        stack.enter_context(process([folder / "backend", str(port)], folder / "backend.log"))
        server = stack.enter_context(redis_as_deployed(folder / "redis"))
        time.sleep(0.3)
        backend = f"http://127.0.0.1:{port}/v1"
        figures = requests(folder, backend) | keyed(folder, backend, server)
        figures |= scripts(server) | refreshes(server) | key_memory(server)
        figures |= polls(folder) | open_streams(folder, backend)
        version = server.client.info("server")["redis_version"]
    told = {k: round(v, 3) for k, v in figures.items()}
    return {"machine": machine(), "redis": version, "python": sys.version.split()[0], **told}
