"""How long work waits for one process: an event loop, or Redis, takes one thing after the other.

Arrivals are drawn, the waits follow from Lindley's recursion. Requests come at random; the chunks of
a stream come evenly spaced after it, with the jitter of a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.scale.plan import Measured, Workload

JITTER_S = 0.002
SEED = 20261125
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Waits:
    """Milliseconds before a piece of work is begun."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    busy: float


def waits(arrivals_s: Floats, services_s: Floats) -> Floats:
    """How long each waits, in the order of arrival, for one server that takes them in turn."""
    gained = services_s[:-1] - np.diff(arrivals_s)
    walked = np.concatenate([[0.0], np.cumsum(gained)])
    return walked - np.minimum.accumulate(walked)


def told(waited_s: Floats, busy: float) -> Waits:
    return Waits(
        float(waited_s.mean() * 1e3),
        float(np.quantile(waited_s, 0.5) * 1e3),
        float(np.quantile(waited_s, 0.99) * 1e3),
        busy,
    )


def event_loop(measured: Measured, workload: Workload, busy: float, work: int = 400_000) -> Waits:
    """Waits in a gateway that is busy for that share of the time; ``work`` pieces are drawn."""
    draw = np.random.default_rng(SEED)
    whole_us = measured.new_us + measured.limited_added_us
    chunks = round(workload.chunks)
    rate = busy * 1e6 / (whole_us + chunks * measured.chunk_us)
    count = max(2_000, work // (1 + chunks))
    began_s = np.cumsum(draw.exponential(1 / rate, count))
    arrivals, services = [began_s], [np.full(count, whole_us / 1e6)]
    if chunks:
        gap_s = workload.token_s * workload.tokens_a_chunk
        after_s = workload.first_token_s + gap_s * np.arange(chunks)
        came_s = began_s[:, None] + after_s + draw.exponential(JITTER_S, (count, chunks))
        arrivals.append(came_s.ravel())
        services.append(np.full(count * chunks, measured.chunk_us / 1e6))
    arrivals_s, services_s = np.concatenate(arrivals), np.concatenate(services)
    order = np.argsort(arrivals_s)
    waited_s = waits(arrivals_s[order], services_s[order])
    # Before the first streams have ended the process is not yet as busy as it will be.
    steady = (arrivals_s[order] > workload.lasts_s) & (arrivals_s[order] < began_s[-1])
    return told(waited_s[steady], busy)


def redis(measured: Measured, busy: float, work: int = 400_000) -> Waits:
    """Waits of a request's two scripts together in a Redis that is busy for that share."""
    draw = np.random.default_rng(SEED)
    script_s = measured.limited_redis_us / 2 / 1e6
    arrivals_s = np.cumsum(draw.exponential(script_s / busy, work))
    waited_s = waits(arrivals_s, np.full(work, script_s))
    return told(waited_s[work // 10 :], busy)
