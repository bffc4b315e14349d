"""What a vLLM server says of itself in ``/metrics``: how busy it is, its adapters, its experts' work.

Names are those of vLLM 0.32, and older spellings beside them; ``thalamus_moe_*`` are our plugin's.
What a server does not say stays unknown: a missing number is never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TOKENS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
#: What a server has done since it started, by the names of its counters; older spellings last.
_TOTALS = {
    "prefix_queried_tokens": (
        "vllm:prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_queries_total",
    ),
    "prefix_hit_tokens": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    "preemptions": ("vllm:num_preemptions_total",),
    "queue_seconds": ("vllm:request_queue_time_seconds_sum",),
    "queued_requests": ("vllm:request_queue_time_seconds_count",),
}
#: How the lines begin that are read. Most of a page are buckets of histograms, and a gateway with
#: hundreds of backends would do little else than take them apart.
_WANTED = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:lora_requests_info",
    *_TOKENS,
    *(name for names in _TOTALS.values() for name in names),
    "thalamus_moe_",
)

Samples = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]


@dataclass(frozen=True, slots=True)
class AdapterResidency:
    """Adapters with requests running or waiting now, of ``most`` that fit at once."""

    running: frozenset[str]
    waiting: frozenset[str]
    most: int


@dataclass(frozen=True, slots=True)
class ExpertWork:
    """Totals of our expert kernels since the server started, all layers and workers together."""

    calls: int
    tokens: int
    slots: int
    slots_not_computed: int
    #: Experts whose weights one call of one layer reads, on average.
    distinct_per_call: float
    #: Largest share of one layer's slots that went to one expert.
    busiest_share: float


@dataclass(frozen=True, slots=True)
class Signals:
    """One reading. ``waiting`` counts requests that wait for room, not those held back on purpose.

    ``kv_usage`` is a share of the cache, of the fullest engine. ``missing`` names what a vLLM server
    should have said and did not.
    """

    running: float | None
    waiting: float | None
    kv_usage: float | None
    adapters: AdapterResidency | None
    experts: ExpertWork | None
    #: Prompt and completion tokens of all requests since the server started.
    tokens: float | None = None
    #: Counters since the server started, by our names; those that it does not have are left out.
    totals: Mapping[str, float] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        told = {"running": self.running, "waiting": self.waiting, "kv_usage": self.kv_usage}
        return tuple(name for name, value in told.items() if value is None)

    @property
    def says_nothing(self) -> bool:
        return len(self.missing) == len(LOAD_SIGNALS) and self.experts is None


LOAD_SIGNALS = ("running", "waiting", "kv_usage")


def read_signals(text: str) -> Signals:
    """Read a page in the Prometheus text format; a malformed line says nothing."""
    samples = read_samples(text)
    by_reason = samples.get("vllm:num_requests_waiting_by_reason", ())
    capacity = [value for labels, value in by_reason if labels.get("reason") == "capacity"]
    usage = _values(samples, "vllm:kv_cache_usage_perc") or _values(
        samples, "vllm:gpu_cache_usage_perc"
    )
    return Signals(
        running=_sum(_values(samples, "vllm:num_requests_running")),
        waiting=_sum(capacity or _values(samples, "vllm:num_requests_waiting")),
        kv_usage=max(usage, default=None),
        adapters=_adapters(samples),
        experts=_experts(samples),
        tokens=_sum([value for name in _TOKENS for value in _values(samples, name)]),
        totals=dict(_totals(samples)),
    )


def _totals(samples: Samples) -> Iterator[tuple[str, float]]:
    for kind, names in _TOTALS.items():
        spelled = next((name for name in names if name in samples), None)
        if spelled is not None:
            yield kind, sum(_values(samples, spelled))


def read_samples(text: str) -> Samples:
    """The samples that are wanted by their metric's name, with their labels."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for line in text.splitlines():
        if not line.startswith(_WANTED):
            continue
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        try:
            value = float(sample[3])
        except ValueError:
            continue
        if not isnan(value):  # which is how an exposition says that there is no number
            labels = dict(_LABEL.findall(sample[2] or ""))
            found.setdefault(sample[1], []).append((labels, value))
    return found


def _values(samples: Samples, name: str) -> list[float]:
    return [value for _, value in samples.get(name, ())]


def _sum(values: Sequence[float]) -> float | None:
    return sum(values) if values else None


def _adapters(samples: Samples) -> AdapterResidency | None:
    """``vllm:lora_requests_info``: its value is when it was true, so the largest is now."""
    seen = samples.get("vllm:lora_requests_info")
    if not seen:
        return None
    labels, _ = max(seen, key=lambda sample: sample[1])
    most = labels.get("max_lora", "")
    return AdapterResidency(
        frozenset(_names(labels.get("running_lora_adapters", ""))),
        frozenset(_names(labels.get("waiting_lora_adapters", ""))),
        int(most) if most.isdecimal() else 0,
    )


def _names(listed: str) -> Iterator[str]:
    return (name.strip() for name in listed.split(",") if name.strip())


def _experts(samples: Samples) -> ExpertWork | None:
    """The plugin's counters, None where vLLM's own experts run."""

    def total(name: str) -> int:
        return int(sum(_values(samples, f"thalamus_moe_{name}_total")))

    calls = total("calls")
    if calls == 0:
        return None
    return ExpertWork(
        calls,
        total("tokens"),
        total("slots"),
        total("slots_not_computed"),
        total("distinct_experts") / calls,
        max(_values(samples, "thalamus_moe_busiest_expert_share"), default=0.0),
    )
