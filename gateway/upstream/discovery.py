"""What a vLLM server says of itself: models, adapters and which are busy, its experts' work.

Read from ``/v1/models`` and ``/metrics`` (names of vLLM 0.32; ``thalamus_moe_*`` is our plugin's).
A server that has no such metrics is one that says less, not an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.errors import BadUpstreamAnswer
from gateway.settings import Backend
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.transport import open_transport

_DEADLINES = Deadlines(connect_s=2.0, first_byte_s=5.0)
_MOST_BYTES = 8 * 2**20
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model or, with a ``parent``, a LoRA adapter of one."""

    name: str
    parent: str | None
    context_tokens: int | None


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
class ServerFacts:
    models: tuple[ServedModel, ...]
    adapters: AdapterResidency | None
    experts: ExpertWork | None


async def discover(backend: Backend) -> ServerFacts:
    """Ask a server. Raises UpstreamError where it cannot be reached or lists no models."""
    models = parse_models(await _get(backend, "/models"))
    root = backend.model_copy(update={"url": _without_v1(backend)})
    metrics = (await _get(root, "/metrics")).decode("utf-8", "replace")
    return ServerFacts(models, parse_adapters(metrics), parse_experts(metrics))


def parse_models(body: bytes) -> tuple[ServedModel, ...]:
    """The models of a ``/v1/models`` answer; an adapter inherits its parent's context."""
    try:
        entries = json.loads(body)["data"]
        context = {e["id"]: e.get("max_model_len") for e in entries}
        found = tuple(
            ServedModel(
                e["id"], e.get("parent"), context[e["id"]] or context.get(e.get("parent") or "")
            )
            for e in entries
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadUpstreamAnswer("the backend's /models is not a list of models") from error
    return found


def parse_adapters(metrics: str) -> AdapterResidency | None:
    """``vllm:lora_requests_info``: its value is when it was true, so the largest is now."""
    seen = [(value, labels) for labels, value in _samples(metrics, "vllm:lora_requests_info")]
    if not seen:
        return None
    _, labels = max(seen, key=lambda pair: pair[0])
    return AdapterResidency(
        _names(labels.get("running_lora_adapters", "")),
        _names(labels.get("waiting_lora_adapters", "")),
        int(labels.get("max_lora") or 0),
    )


def parse_experts(metrics: str) -> ExpertWork | None:
    """The plugin's counters, None where vLLM's own experts run."""

    def total(name: str) -> int:
        return int(sum(value for _, value in _samples(metrics, f"thalamus_moe_{name}_total")))

    calls = total("calls")
    if calls == 0:
        return None
    shares = [value for _, value in _samples(metrics, "thalamus_moe_busiest_expert_share")]
    return ExpertWork(
        calls,
        total("tokens"),
        total("slots"),
        total("slots_not_computed"),
        total("distinct_experts") / calls,
        max(shares, default=0.0),
    )


def _samples(metrics: str, wanted: str) -> Iterator[tuple[dict[str, str], float]]:
    """Labels and value of every sample of a metric, in the Prometheus text format."""
    for line in metrics.splitlines():
        if not line.startswith(wanted):
            continue
        found = _SAMPLE.match(line)
        if found and found[1] == wanted:
            yield dict(_LABEL.findall(found[2] or "")), float(found[3])


def _names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())


def _without_v1(backend: Backend) -> Any:
    return type(backend.url)(backend.address.removesuffix("/v1"))


async def _get(backend: Backend, path: str) -> bytes:
    transport = open_transport(backend)
    try:
        response = await transport.open("GET", path, {}, b"", _DEADLINES)
        body = bytearray()
        try:
            while piece := await response.read(_DEADLINES.first_byte_s):
                body += piece
                if len(body) > _MOST_BYTES:
                    raise BadUpstreamAnswer(f"the backend's {path} is too long")
        finally:
            await response.close()
    finally:
        await transport.close()
    if path == "/models" and response.status != 200:
        raise BadUpstreamAnswer(f"the backend answered {response.status} for {path}")
    return bytes(body) if response.status == 200 else b""
