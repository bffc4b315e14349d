"""From the use of one process to a fleet: how many of what, how loaded, and what gives out first.

Everything scales in proportion to the rate but for three things that grow with the product of two
numbers: gateways that each poll every backend, series of gateways times backends, and the one Redis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Share of a core that a gateway process and a Redis are to be busy; see the delays beside it.
TARGET = 0.6
#: What goes into keeping watch on backends is to be no more than this share of a gateway's core.
WATCH_SHARE = 0.1
#: Pages of load that a model server is to write a second; each takes it some milliseconds.
MOST_POLLS = 50.0
#: Redis' own default.
MOST_CLIENTS = 10_000
#: Series that one Prometheus of ordinary size holds.
MOST_SERIES = 5_000_000
#: The gateway's default server.max_inflight.
MOST_INFLIGHT = 2048
PROMETHEUS_EVERY_S = 15.0
REFRESH_EVERY_S = 2.0


@dataclass(frozen=True)
class Measured:
    """µs of processor time, KiB and counts of one process; see measure.py."""

    new_us: float
    limited_added_us: float
    limited_redis_us: float
    refresh_redis_us: float
    key_bytes: float
    poll_us: float
    series: float
    series_a_backend: float
    rest_mib: float
    stream_kib: float
    stream_files: float
    chunk_us: float
    redis_bytes: float

    @classmethod
    def of(cls, told: dict[str, Any]) -> Measured:
        return cls(
            new_us=told["new_us"],
            limited_added_us=max(0.0, told["limited_us"] - told["pinned_us"]),
            # Many gateways at a low rate each seldom send two commands together.
            limited_redis_us=max(
                told["limited_redis_us"], told["reserve_redis_us"] + told["settle_redis_us"]
            ),
            refresh_redis_us=told["refresh_redis_us"],
            key_bytes=told["key_bytes"],
            poll_us=told["poll_us"],
            series=told["series"],
            series_a_backend=told["series_a_backend"],
            rest_mib=told["rest_mib"],
            stream_kib=told["stream_kib"],
            stream_files=told["stream_files"],
            chunk_us=told["chunk_us"],
            redis_bytes=told["limited_in_bytes"] + told["limited_out_bytes"],
        )


@dataclass(frozen=True)
class Workload:
    """What comes: every request is `auto` with an ask never seen, and its key has all limits."""

    name: str
    tokens: int = 250
    tokens_a_chunk: int = 1
    is_streamed: bool = True
    first_token_s: float = 0.4
    token_s: float = 0.025

    @property
    def chunks(self) -> float:
        return self.tokens / self.tokens_a_chunk if self.is_streamed else 0.0

    @property
    def lasts_s(self) -> float:
        return self.first_token_s + self.tokens * self.token_s


@dataclass(frozen=True)
class Layout:
    """How model servers are reached: each replica, or pools that something else balances."""

    name: str
    pools: int | None
    #: Output tokens a second of one replica.
    replica_tokens_a_s: float = 2_500

    def replicas(self, rate: float, workload: Workload) -> float:
        return max(1.0, rate * workload.tokens / self.replica_tokens_a_s)

    def backends(self, rate: float, workload: Workload) -> float:
        return self.replicas(rate, workload) if self.pools is None else self.pools


WORKLOADS = (
    Workload("streams, an event a token"),
    Workload("streams, an event for ten tokens", tokens_a_chunk=10),
    Workload("whole answers", is_streamed=False),
)
REPLICAS = Layout("every replica a backend", None)
POOLS = Layout("20 pools, signals: false", 20)


@dataclass(frozen=True)
class Fleet:
    gateways: int
    replicas: int
    open_requests: int
    redis_busy: float
    redis_mbit_s: float
    poll_share: float
    polls_a_backend: float
    series: float
    memory_gib: float
    files_a_gateway: int

    @property
    def redis_needed(self) -> int:
        return max(1, math.ceil(self.redis_busy / TARGET))

    @property
    def samples_a_s(self) -> float:
        return self.series / PROMETHEUS_EVERY_S


def request_us(measured: Measured, workload: Workload) -> float:
    """Processor time of the gateway for a request, from its first byte to its last."""
    chunks_us = workload.chunks * measured.chunk_us
    return measured.new_us + measured.limited_added_us + chunks_us


def fleet(measured: Measured, workload: Workload, layout: Layout, rate: float) -> Fleet:
    """What a rate takes when every gateway is busy to the target; ``rate`` in requests a second.

    Where polls alone would fill a gateway the fleet is as if they did not: ``poll_share`` tells.
    """
    busy = rate * request_us(measured, workload) / 1e6
    opened = rate * workload.lasts_s
    backends = layout.backends(rate, workload)
    polled = backends if layout.pools is None else 0.0
    poll_share = polled * measured.poll_us / 1e6
    gateways = max(1, math.ceil(busy / max(TARGET - poll_share, TARGET / 2)))
    gateways = max(gateways, math.ceil(opened / MOST_INFLIGHT))
    refreshes = gateways / REFRESH_EVERY_S
    redis_us = rate * measured.limited_redis_us + refreshes * measured.refresh_redis_us
    series = gateways * (measured.series + backends * measured.series_a_backend)
    return Fleet(
        gateways=gateways,
        replicas=math.ceil(layout.replicas(rate, workload)),
        open_requests=math.ceil(opened),
        redis_busy=redis_us / 1e6,
        redis_mbit_s=rate * measured.redis_bytes * 8 / 1e6,
        poll_share=poll_share,
        polls_a_backend=gateways if polled else 0.0,
        series=series,
        memory_gib=(gateways * measured.rest_mib + opened * measured.stream_kib / 1024) / 1024,
        files_a_gateway=math.ceil(opened / gateways * measured.stream_files) + 32,
    )


@dataclass(frozen=True)
class Limit:
    """Something of which there is one, or that grows faster than the rate; ``use`` of 1 is full."""

    name: str
    use: Callable[[Fleet], float]
    remedy: str


LIMITS = (
    Limit(
        "one Redis, busy to the target",
        lambda f: f.redis_busy / TARGET,
        "cells: groups of gateways with a Redis each, a key in one of them",
    ),
    Limit(
        "polls of a gateway, a tenth of its core",
        lambda f: f.poll_share / WATCH_SHARE,
        "`signals_every_s: 5`; then pools with a balancer of their own, `signals: false`",
    ),
    Limit(
        "polls of a model server, 50 a second",
        lambda f: f.polls_a_backend / MOST_POLLS,
        "the same",
    ),
    Limit(
        "connections of one Redis, 10,000",
        lambda f: f.gateways / MOST_CLIENTS,
        "`maxclients`, or cells",
    ),
    Limit(
        "series of one Prometheus, 5 million",
        lambda f: f.series / MOST_SERIES,
        "a Prometheus per cell, or recording rules and no raw series by instance",
    ),
)


def breaks_at(
    measured: Measured, workload: Workload, layout: Layout, limit: Limit, most: float = 1e7
) -> float | None:
    """The rate at which the limit is reached; None where it holds up to ``most``."""
    low, high = 0.0, most
    if limit.use(fleet(measured, workload, layout, high)) < 1:
        return None
    while high - low > max(1.0, low * 1e-3):
        middle = (low + high) / 2
        if limit.use(fleet(measured, workload, layout, middle)) < 1:
            low = middle
        else:
            high = middle
    return high


def one_process(measured: Measured, workload: Workload) -> tuple[float, float]:
    """Requests a second of one gateway at the target, and where its places for requests run out."""
    return TARGET * 1e6 / request_us(measured, workload), MOST_INFLIGHT / workload.lasts_s
