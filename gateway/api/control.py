"""The routes beside the traffic, served by FastAPI: models, dry-run decisions, health, metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.api.explain import decision_document
from gateway.decision.endpoints import CHAT, ENDPOINTS
from gateway.errors import NoUsableBackend
from gateway.parts import Parts
from gateway.pipeline import Incoming
from policies.presets import PROFILES

_ROUTE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "messages"],
                    "description": "A chat completion body; nothing is sent to any model.",
                }
            }
        },
    }
}


def control_router(parts: Parts, is_draining: Callable[[], bool]) -> APIRouter:
    """Build the routes over one process's parts."""
    router = APIRouter()
    started_s = int(parts.clock.wall_s())

    @router.get("/v1/models")
    def list_models(request: Request) -> dict[str, Any]:
        """Models a request can name and its key permits: the virtual ones first."""
        principal = parts.door.authenticate(request.headers)
        candidates = [name for name in parts.catalog.models if principal.permits(name)]
        entries: list[dict[str, Any]] = [
            {
                "id": name,
                "object": "model",
                "created": started_s,
                "owned_by": "thalamus",
                "pricing": None,
                "routing": {"candidates": candidates},
            }
            for name in ("auto", *(f"auto:{profile}" for profile in PROFILES))
        ]
        entries += [_model_entry(parts, name, started_s) for name in candidates]
        return {"object": "list", "data": entries}

    @router.get("/v1/models/{name:path}")
    def get_model(name: str, request: Request) -> dict[str, Any]:
        principal = parts.door.authenticate(request.headers)
        parts.decider.check_model_name(name)
        principal.check_model(name)
        return _model_entry(parts, name, started_s)

    @router.post("/v1/route", openapi_extra=_ROUTE_BODY)
    async def route(request: Request) -> Response:
        """The decision for a chat body, without the call: every candidate, the choice and why."""
        received_s = parts.clock.monotonic_s()
        headers = dict(request.headers)
        principal = parts.door.authenticate(headers)
        incoming = Incoming(CHAT, "route", headers, await request.body(), received_s)
        plan = await parts.pipeline.planned(incoming, principal, always_scored=True)
        document = decision_document(plan, parts.catalog, parts.pipeline.scorer)
        return Response(document, media_type="application/json")

    _add_health(router, parts, is_draining)

    @router.get("/metrics")
    def metrics() -> Response:
        parts.publish_backend_states()
        return Response(parts.metrics.exposition(), media_type=parts.metrics.content_type)

    return router


def _add_health(router: APIRouter, parts: Parts, is_draining: Callable[[], bool]) -> None:
    @router.get("/health/live")
    def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/health/ready")
    def ready() -> dict[str, str]:
        """Ready when the router is loaded, which start-up guarantees, and a backend can be asked."""
        if is_draining():
            raise NoUsableBackend("the gateway is draining")
        if not parts.catalog.is_ready():
            raise NoUsableBackend("no backend can be asked now")
        return {"status": "ready"}


def _model_entry(parts: Parts, name: str, created: int) -> dict[str, Any]:
    model = parts.catalog.models[name]
    config = model.config
    price = config.price_usd_per_mtok
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "thalamus",
        "endpoints": sorted({e.name for e in ENDPOINTS if model.serves(e.name)}),
        "context_length": config.context_tokens,
        "pricing": None
        if price is None
        else {"prompt": price.input / 1e6, "completion": price.output / 1e6},
    }
