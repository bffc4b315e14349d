"""Rounds of measurement: every gateway in turn, each started afresh and kept on one core.

CPU time per request is the figure: on a machine that others use too, requests a second and latencies
tell about the others. Gateways are compared within a round, never across runs.
"""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from gateway.bench.gauge import cpu_s, memory_kib, own_memory_kib
from gateway.bench.peers import (
    BACKEND_PORTS,
    METRICS_PORT,
    OURS,
    PEERS_FOLDER,
    PORT,
    Peer,
    find_tool,
    ourselves,
)
from gateway.errors import ConfigError

HERE = Path(__file__).parent
GATEWAY_CORE, LOAD_CORE = "0", "1"
#: With two workers: two cores for the gateway, as many for backend and load.
GATEWAY_CORES, LOAD_CORES = "0-1", "2-3"
CONNECTIONS = 64
REQUESTS_BEFORE_MEMORY = 20_000
CROWD = 1_000
_STARTS_WITHIN_S = 60.0
_RESULT = re.compile(r"JSON (\{.*\})")
_QUESTION = b'{"model":"mock","messages":[{"role":"user","content":"Hi"}]}'

Figures = dict[str, float]


@dataclass(frozen=True)
class Pace:
    """How long each part lasts: seconds of requests, streams at once paced and in bursts."""

    load_s: float = 2.0
    rate_s: float = 4.0
    paced_streams: int = 192
    burst_streams: int = 1_500
    crowd: int = CROWD
    crowd_chunks: int = 25
    #: Streams read one after the other beside long prompts, each of half a second.
    long_streams: int = 8
    requests_before_memory: int = REQUESTS_BEFORE_MEMORY


QUICK = Pace(0.5, 0.5, 16, 32, 50, 5, 2, 500)


@contextmanager
def backend(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The backend of all gateways, in C, so that it and the load fit on one core."""
    compiler = find_tool("cc", "install a C compiler, as in apt-get install gcc")
    find_tool("wrk", "install it, as in apt-get install wrk")
    find_tool("taskset", "install it, as in apt-get install util-linux")
    for port in (PORT, *BACKEND_PORTS):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise ConfigError(
                    f"port {port} is in use, perhaps by another bench; "
                    "THALAMUS_BENCH_PORT=N takes the four from N on"
                )
    program = folder / "backend"
    subprocess.run([compiler, "-O2", "-o", program, HERE / "backend.c"], check=True)  # noqa: S603
    ports = map(str, BACKEND_PORTS)
    with _process(folder, "backend", LOAD_CORE, [str(program), *ports]) as process:
        time.sleep(0.2)
        yield process


@contextmanager
def _process(
    folder: Path, name: str, cores: str, command: list[str]
) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / f"{name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603
            [find_tool("taskset", ""), "-c", cores, *command], stdout=sink, stderr=sink
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _get(url: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        answer.read()
        return int(answer.status)


def shape(chunks: int = 100, interval_us: int = 0) -> None:
    """Tell the backend how its streams are to be."""
    _get(f"http://127.0.0.1:{BACKEND_PORTS[0]}/__set?chunks={chunks}&interval_us={interval_us}")


def _wait_until_it_answers(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < ends_s and process.poll() is None:
        try:
            if _get(peer.url, _QUESTION) == 200:
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise ConfigError(f"{peer.name} did not start: {' '.join(peer.command)}")


@contextmanager
def running_peer(
    peer: Peer, folder: Path, cores: str = GATEWAY_CORE
) -> Iterator[subprocess.Popen[bytes]]:
    """One gateway, answering. Raises ConfigError when it does not start."""
    with _process(folder, f"{peer.name}-{peer.port}", cores, list(peer.command)) as process:
        _wait_until_it_answers(peer, process)
        yield process


def _wait_for_workers(count: int) -> None:
    """One that still starts would be paid for by the requests of the others."""
    ends_s = time.monotonic() + _STARTS_WITHIN_S
    told = f"\nthalamus_workers {count}".encode()
    while time.monotonic() < ends_s:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as answer:
            if told in answer.read():
                return
        time.sleep(0.2)
    raise ConfigError(f"{count} workers did not start")


class Load:
    """What is asked of one running gateway, and what that cost it."""

    def __init__(self, peer: Peer, pid: int, core: str = LOAD_CORE) -> None:
        self._peer = peer
        self.pid = pid
        self.has_gateway = bool(peer.command)
        self._pinned_load = [find_tool("taskset", ""), "-c", core]
        self.sent = 0

    def wrk(self, seconds: float, *words: str, connections: int = CONNECTIONS) -> Figures:
        """As fast as it goes: ``us`` of CPU a request, ``rps`` requests a second."""
        before_s, began_s = cpu_s(self.pid), time.monotonic()
        told = subprocess.run(  # noqa: S603
            [
                *(*self._pinned_load, find_tool("wrk", ""), "-t1", f"-c{connections}"),
                *(f"-d{max(1, round(seconds))}s", "--timeout", "20s", "-s", str(HERE / "chat.lua")),
                *(self._peer.url, "--", *words),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        result = _RESULT.search(told)
        if result is None:
            raise ConfigError(f"wrk said no result: {told}")
        counts = json.loads(result[1])
        spent_s, done = cpu_s(self.pid) - before_s, max(1, counts["requests"])
        self.sent += done
        return {
            "us": spent_s / done * 1e6,
            "rps": done / (counts["us"] / 1e6),
            "busy": spent_s / (time.monotonic() - began_s),
            "bad": counts["non2xx"] + counts["err"],
        }

    def _start_clients(self, kind: str, model: str, **words: float) -> subprocess.Popen[bytes]:
        options = [f"--{name}={value}" for name, value in words.items()]
        command = (sys.executable, "-m", "gateway.bench.streams", kind, self._peer.url, model)
        return subprocess.Popen(  # noqa: S603
            [*self._pinned_load, *command, *options], stdout=subprocess.PIPE
        )

    def beside_long_prompts(self, streams: int) -> Figures:
        """How long chunks of a stream are held while others ask with prompts of a megabyte."""
        model = "auto" if self._peer.name == OURS else "mock"
        seconds = streams * 0.5 + 1.0
        with self._start_clients("long", model, seconds=seconds) as asking:
            told = self.clients("streams", streams=streams, concurrency=1)
            asked, _ = asking.communicate(timeout=60)
        others: Figures = json.loads(asked)
        if others["done"] == 0:
            raise ConfigError(f"{self._peer.name} answered no prompt of a megabyte")
        return {"hold_us": told["hold_p99_us"], "bad": told["bad"] + others["bad"]}

    def clients(
        self, kind: str, meanwhile: Callable[[], None] | None = None, **words: float
    ) -> Figures:
        """Clients of ``gateway.bench.streams``; ``us`` of CPU a request or chunk."""
        before_s = cpu_s(self.pid)
        with self._start_clients(kind, "mock", **words) as clients:
            if meanwhile is not None:
                meanwhile()
            told, _ = clients.communicate(timeout=120)
        found: Figures = json.loads(told)
        spent_s = cpu_s(self.pid) - before_s
        self.sent += int(found["done"])
        return {**found, "us": spent_s / max(1, found["chunks"] or found["done"]) * 1e6}


def measure(
    peer: Peer, folder: Path, backend_pid: int, pace: Pace, *, with_memory: bool
) -> Figures:
    """One round of one gateway. Raises ConfigError when it does not start."""
    if not peer.command:
        return _latency_alone(Load(peer, backend_pid), pace)
    with running_peer(peer, folder) as process:
        load = Load(peer, process.pid)
        figures: Figures = {"start_mib": memory_kib(process.pid) / 1024}
        load.wrk(1, "mock")
        told = [load.wrk(pace.load_s, "mock")]
        figures |= {"pinned_us": told[0]["us"], "pinned_rps": told[0]["rps"]}
        if peer.name == OURS:
            told += [load.wrk(pace.load_s, "auto"), load.wrk(pace.load_s, "auto", "new")]
            figures |= {"auto_us": told[1]["us"], "auto_new_us": told[2]["us"]}
        figures |= _latency_alone(load, pace)
        shape(interval_us=5_000)
        told.append(load.clients("streams", streams=pace.paced_streams, concurrency=16))
        shape()
        told.append(load.clients("streams", streams=pace.burst_streams, concurrency=16))
        figures |= {"paced_us": told[-2]["us"], "burst_us": told[-1]["us"]}
        figures["bad"] = figures.get("bad", 0) + sum(one["bad"] for one in told)
        told = []
        if with_memory:
            while load.sent < pace.requests_before_memory:
                told.append(load.wrk(1, "mock"))
            figures["after_mib"] = memory_kib(process.pid) / 1024
        figures |= _crowd(load, process.pid, pace)
        figures["bad"] = figures.get("bad", 0) + sum(one["bad"] for one in told)
        return figures


def _latency_alone(load: Load, pace: Pace) -> Figures:
    shape()
    rate = load.clients("rate", rate=100, seconds=pace.rate_s)
    shape(interval_us=5_000)
    beside = load.beside_long_prompts(pace.long_streams)
    figures = {
        "rate_p50_us": rate["p50_us"],
        "rate_p99_us": rate["p99_us"],
        "long_hold_us": beside["hold_us"],
        "bad": rate["bad"] + beside["bad"],
    }
    return figures if load.has_gateway else {**figures, **_crowd(load, None, pace)}


def _crowd(load: Load, pid: int | None, pace: Pace) -> Figures:
    """A thousand streams at once, a chunk every 200 ms each; memory while they are open."""
    shape(chunks=pace.crowd_chunks, interval_us=200_000)
    before_kib = 0 if pid is None else own_memory_kib(pid)
    open_kib: list[int] = []

    def meanwhile() -> None:
        time.sleep(0.2 * pace.crowd_chunks * 0.6)
        open_kib.append(0 if pid is None else own_memory_kib(pid))

    told = load.clients("streams", meanwhile, streams=pace.crowd, concurrency=pace.crowd)
    shape()
    return {
        "crowd_bad": told["bad"] + pace.crowd - told["done"],
        "crowd_gap_p99_us": told["gap_p99_us"],
        "crowd_us": told["us"],
        "stream_kib": (open_kib[0] - before_kib) / pace.crowd,
    }


@dataclass(frozen=True)
class Scaling:
    """What two workers carry over one: by their speed, or where cores are too few by CPU time."""

    ratio: float
    is_by_speed: bool


def two_workers(folder: Path, pace: Pace) -> Scaling:
    """Compare two workers with one, or where cores are too few with two gateways beside each other.

    Two processes on one core take its caches from each other, which costs more than what workers
    share; so there the two that share nothing are on one core as well.
    """
    if (os.cpu_count() or 1) < 4:
        turns = [_beside_each_other(folder, pace) for _ in range(3)]
        return Scaling(statistics.median(turns), is_by_speed=False)
    told = []
    for workers in (1, 2):
        peer = ourselves(folder, workers)
        with running_peer(peer, folder, GATEWAY_CORES) as process:
            _wait_for_workers(workers)
            load = Load(peer, process.pid, LOAD_CORES)
            load.wrk(1, "mock")
            told.append(load.wrk(pace.load_s * 2, "mock")["rps"])
    return Scaling(told[1] / told[0], is_by_speed=True)


def _beside_each_other(folder: Path, pace: Pace) -> float:
    """Twice the requests a CPU second of two workers over those of two gateways of one worker."""
    one, other, two = ourselves(folder), ourselves(folder, port=METRICS_PORT), ourselves(folder, 2)
    with running_peer(one, folder) as first, running_peer(other, folder) as second:
        apart_us = _shared_us([Load(one, first.pid), Load(other, second.pid)], pace)
    with running_peer(two, folder) as process:
        _wait_for_workers(2)
        loads = [Load(two, process.pid), Load(two, process.pid)]
        return 2 * apart_us / _shared_us(loads, pace)


def _shared_us(loads: Sequence[Load], pace: Pace) -> float:
    """CPU time a request, in µs, of gateways that each get a part of the connections."""

    def ask(load: Load) -> None:
        load.wrk(pace.load_s * 2, "mock", connections=CONNECTIONS // len(loads))

    for load in loads:
        load.wrk(1, "mock")
    pids = {load.pid for load in loads}
    before_s, sent = sum(map(cpu_s, pids)), sum(load.sent for load in loads)
    with ThreadPoolExecutor(len(loads)) as pool:
        list(pool.map(ask, loads))
    spent_s = sum(map(cpu_s, pids)) - before_s
    return spent_s / max(1, sum(load.sent for load in loads) - sent) * 1e6


def draw_flames(folder: Path, picture: Path) -> None:
    """Sample the gateway under load, half pinned and half `auto`, and draw where its time goes."""
    spy = find_tool("py-spy", f"install it beside the peers: {PEERS_FOLDER}/pip install py-spy")
    peer = ourselves(folder)
    with running_peer(peer, folder) as process:
        load = Load(peer, process.pid)
        load.wrk(1, "mock")
        options = ("--nonblocking", "--rate", "400", "--duration", "8", "--output", str(picture))
        with subprocess.Popen([spy, "record", "--pid", str(process.pid), *options]) as spying:  # noqa: S603
            load.wrk(5, "mock")
            load.wrk(5, "auto")
        if spying.returncode:
            raise ConfigError("py-spy could not look at the gateway; it may need more rights")


def allow_many_files() -> None:
    """A thousand streams are two thousand sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
