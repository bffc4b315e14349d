"""Models and backends as the console and the admin port tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.decision.catalog import CatalogModel
from gateway.decision.endpoints import ENDPOINTS
from gateway.parts import Parts
from gateway.upstream.backend import BackendHandle


def models_document(
    parts: Parts, permits: Callable[[str], bool], *, tells_backends: bool
) -> dict[str, Any]:
    """Every permitted model, with what is declared of it; and who serves it, for those who may know."""
    now_s = parts.clock.monotonic_s()
    models = []
    for name, model in parts.catalog.models.items():
        if not permits(name):
            continue
        told = _declared(model)
        if tells_backends:
            told["backends"] = [backend_entry(model, handle, now_s) for handle in model.backends]
        models.append(told)
    return {"models": models}


def _declared(model: CatalogModel) -> dict[str, Any]:
    config = model.config
    price = config.price_usd_per_mtok
    return {
        "model": model.name,
        "price_usd_per_mtok": None if price is None else price.model_dump(),
        "gpu_usd_per_hour": config.gpu_usd_per_hour,
        "context_tokens": config.context_tokens,
        "parameters_b": config.parameters_b,
        "active_parameters_b": config.active_parameters_b,
        "released": None if config.released is None else config.released.isoformat(),
        "security_level": model.security_level,
        "readability": model.readability.value,
        "capabilities": None if model.capabilities is None else sorted(model.capabilities),
        "endpoints": sorted({e.name for e in ENDPOINTS if model.serves(e.name)}),
        "quality_prior": config.quality_prior,
    }


def backend_entry(model: CatalogModel, handle: BackendHandle, now_s: float) -> dict[str, Any]:
    """Whether it may be asked, how busy and how fast it is, in its own word and as seen from here."""
    health = handle.health
    told = health.fresh_signals(now_s)
    return {
        "model": model.name,
        "backend": handle.name,
        "served_model": handle.served_model,
        "usable": health.is_usable(now_s),
        "up": health.is_up,
        "breaker_open": health.is_paused,
        "drained": health.is_drained,
        "inflight": health.inflight,
        "ttft_ms": health.ttft_ms.value,
        "token_ms": health.token_ms.value,
        "running": None if told is None else told.running,
        "waiting": None if told is None else told.waiting,
        "kv_usage": None if told is None else told.kv_usage,
    }
