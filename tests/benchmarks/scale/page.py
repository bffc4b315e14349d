"""The tables of docs/scale.md, from the figures beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.benchmarks.scale import queueing
from tests.benchmarks.scale.plan import (
    LIMITS,
    POOLS,
    REPLICAS,
    TARGET,
    WORKLOADS,
    Measured,
    breaks_at,
    fleet,
    one_process,
    request_us,
)

FIGURES = Path(__file__).with_name("figures.json")
PAGE = Path(__file__).parents[3] / "docs/scale.md"
RATES = (1_000, 10_000, 100_000)
SHARES = (0.3, 0.6, 0.8, 0.9)

_ROWS = (
    ("pinned_us", "request to a named model, answered whole", "µs"),
    ("new_us", "request to `auto`, its ask never seen", "µs"),
    ("chunk_us", "event of a stream", "µs"),
    ("limited_us", "request to a named model, its key with all limits", "µs"),
    ("unlimited_us", "the same, its key without limits", "µs"),
    (
        "limited_redis_us",
        "Redis for a request with limits, one gateway that sends 64 at once",
        "µs",
    ),
    ("reserve_redis_us", "… holding, 50 connections that send one at a time", "µs"),
    ("settle_redis_us", "… settling, the same way", "µs"),
    ("unlimited_redis_us", "Redis for a request without limits, one gateway", "µs"),
    ("limited_scripts", "scripts a request with limits", ""),
    ("limited_in_bytes", "to Redis a request with limits", "bytes"),
    ("refresh_redis_us", "Redis for a process's look whether keys changed, every 2 s", "µs"),
    ("key_bytes", "Redis' memory a key", "bytes"),
    ("poll_us", "watching one backend for a second, its page of 40 kB", "µs"),
    ("rest_mib", "memory of its own at rest (130 MB resident)", "MiB"),
    ("stream_kib", "memory an open stream", "KiB"),
    ("stream_files", "files an open stream", ""),
    ("series", "series in `/metrics`, two models", ""),
    ("series_a_backend", "… more for each backend", ""),
)


def figures() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(FIGURES.read_text())
    return told


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def _table(head: list[str], rows: list[list[str]]) -> str:
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def measured_table(told: dict[str, Any]) -> str:
    where = f"{told['machine']}, Python {told['python']}, Redis {told['redis']}; "
    rows = [[words, f"{_number(told[key])} {unit}".strip()] for key, words, unit in _ROWS]
    words = f"the least of {told['rounds']} rounds."
    return f"{where}{words}\n\n" + _table(["what", "one process"], rows)


def process_table(measured: Measured) -> str:
    rows = []
    for workload in WORKLOADS:
        by_core, by_places = one_process(measured, workload)
        cost_ms = request_us(measured, workload) / 1e3
        rows.append([workload.name, f"{_number(cost_ms)} ms", _number(by_core), _number(by_places)])
    head = ["250 tokens in 6.7 s", "CPU a request", "requests/s by the core", "by 2,048 places"]
    return _table(head, rows)


def fleet_table(measured: Measured) -> str:
    head = ["", *(f"{rate:,}/s" for rate in RATES)]
    rows = []
    for workload in WORKLOADS:
        fleets = [fleet(measured, workload, POOLS, rate) for rate in RATES]
        rows.append([f"**{workload.name}**", *[""] * len(RATES)])
        rows += [
            ["gateways (cores)", *(f"{f.gateways:,}" for f in fleets)],
            ["requests open at once", *(f"{f.open_requests:,}" for f in fleets)],
            ["memory of all gateways", *(f"{_number(f.memory_gib)} GiB" for f in fleets)],
            ["files a gateway", *(f"{f.files_a_gateway:,}" for f in fleets)],
            ["Redis, cores busy", *(_number(f.redis_busy) for f in fleets)],
            ["Redis needed", *(str(f.redis_needed) for f in fleets)],
            ["to and from Redis", *(f"{_number(f.redis_mbit_s)} Mbit/s" for f in fleets)],
            ["samples for Prometheus", *(f"{f.samples_a_s:,.0f}/s" for f in fleets)],
        ]
    return _table(head, rows)


def breaks_table(measured: Measured) -> str:
    rows = []
    for limit in LIMITS:
        cells = []
        for layout in (REPLICAS, POOLS):
            for workload in WORKLOADS[:2]:
                rate = breaks_at(measured, workload, layout, limit)
                cells.append("–" if rate is None else f"{rate:,.0f}")
        rows.append([limit.name, *cells, limit.remedy])
    head = [
        "what there is one of",
        "replicas, an event a token",
        "replicas, ten tokens",
        "pools, an event a token",
        "pools, ten tokens",
        "then",
    ]
    lines = _table(head, rows).splitlines()
    lines[1] = "|---|---:|---:|---:|---:|---|"
    return "\n".join(lines)


def first_to_break(measured: Measured) -> str:
    sentences = []
    for layout in (REPLICAS, POOLS):
        found = [
            (rate, limit.name, workload.name)
            for workload in WORKLOADS
            for limit in LIMITS
            if (rate := breaks_at(measured, workload, layout, limit)) is not None
        ]
        rate, limit_name, workload_name = min(found)
        sentences.append(
            f"With {layout.name} the first is **{limit_name}**, at {rate:,.0f} requests a second "
            f"({workload_name})."
        )
    return " ".join(sentences)


def first_table(measured: Measured) -> str:
    """At each rate the thing that is fullest; above 100 % it is what has to be changed first."""
    rows = []
    for layout in (REPLICAS, POOLS):
        for workload in WORKLOADS[:2]:
            cells = []
            for rate in RATES:
                planned = fleet(measured, workload, layout, rate)
                fullest = max(LIMITS, key=lambda limit: limit.use(planned))
                cells.append(f"{fullest.name.split(',')[0]}: {fullest.use(planned):,.0%}")
            rows.append([f"{layout.name}; {workload.name}", *cells])
    return _table(["", *(f"{rate:,}/s" for rate in RATES)], rows)


def delays_table(measured: Measured) -> str:
    rows = []
    for workload in WORKLOADS:
        found = [queueing.event_loop(measured, workload, share) for share in SHARES]
        cells = [f"{w.p50_ms:.2f}, {w.p99_ms:.2f}" for w in found]
        rows.append([f"gateway, {workload.name}", *cells])
    found = [queueing.redis(measured, share) for share in SHARES]
    rows.append(["Redis, a script", *(f"{w.p50_ms:.2f}, {w.p99_ms:.2f}" for w in found)])
    return _table(["wait in ms: p50, p99", *(f"{share:.0%} busy" for share in SHARES)], rows)


def blocks() -> dict[str, str]:
    """The text between each pair of marks on the page."""
    told = figures()
    measured = Measured.of(told)
    return {
        "measured": measured_table(told),
        "process": process_table(measured),
        "fleet": fleet_table(measured),
        "breaks": f"{first_to_break(measured)}\n\n{breaks_table(measured)}",
        "first": first_table(measured),
        "delays": delays_table(measured),
    }


def page(text: str) -> str:
    """The page with its blocks as the figures have them now."""
    for name, block in blocks().items():
        begin, end = (f"<!-- scale {name}: {mark} -->" for mark in ("begin", "end"))
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"docs/scale.md has no {begin} … {end}")
        text = f"{before}{begin}\n{block}\n{end}{after}"
    return text


__all__ = ["FIGURES", "PAGE", "TARGET", "blocks", "figures", "page"]
