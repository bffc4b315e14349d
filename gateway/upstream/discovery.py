"""What a vLLM server says of itself: models, adapters and which are busy, its experts' work.

Read from ``/v1/models`` and ``/metrics``. A server that has no such metrics is one that says less,
not an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from gateway.errors import BadUpstreamAnswer
from gateway.settings import Backend
from gateway.upstream.pages import get_page
from gateway.upstream.signals import AdapterResidency, ExpertWork, read_signals
from gateway.upstream.transport import open_transport


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model or, with a ``parent``, a LoRA adapter of one."""

    name: str
    parent: str | None
    context_tokens: int | None


@dataclass(frozen=True, slots=True)
class ServerFacts:
    models: tuple[ServedModel, ...]
    adapters: AdapterResidency | None
    experts: ExpertWork | None


async def discover(backend: Backend) -> ServerFacts:
    """Ask a server. Raises UpstreamError where it cannot be reached or lists no models."""
    models = parse_models(await _get(backend, "/models"))
    root = backend.model_copy(update={"url": type(backend.url)(backend.root_address)})
    metrics = (await _get(root, "/metrics")).decode("utf-8", "replace")
    signals = read_signals(metrics)
    return ServerFacts(models, signals.adapters, signals.experts)


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


async def _get(backend: Backend, path: str) -> bytes:
    transport = open_transport(backend)
    try:
        status, body = await get_page(transport, path)
    finally:
        await transport.close()
    if path == "/models" and status != 200:
        raise BadUpstreamAnswer(f"the backend answered {status} for {path}")
    return body if status == 200 else b""
