"""The console on the gateway's own port: its pages, and what they show beside the public API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request

from gateway.api.error_answers import answer_errors
from gateway.console.access import check_is_at_the_machine
from gateway.console.effective_config import effective_config
from gateway.console.learning import learning_router
from gateway.console.models import models_document
from gateway.console.pages import ConsolePages
from gateway.console.traffic import traffic_document
from gateway.parts import Parts
from policies.presets import PROFILES
from policies.types import GOALS


def console_app(parts: Parts) -> FastAPI:
    """Build the app that is mounted at ``/console``; what it shows is what the caller's key may see."""
    app = FastAPI(openapi_url=None)
    app.include_router(learning_router(parts))
    config = parts.config
    is_open = config.auth.mode == "open"

    @app.get("/api/about")
    def about() -> Mapping[str, Any]:
        """Where the page is and what it may offer; the same for everybody, so it wants no key."""
        return about_document("gateway", config.auth.mode)

    @app.get("/api/session")
    def session(request: Request) -> dict[str, Any]:
        """What this caller may do here."""
        principal = parts.door.authenticate(request.headers)
        return {
            "keeps_feedback": parts.feedback is not None,
            "policy_version": parts.decider.version,
            "models": [name for name in parts.catalog.models if principal.permits(name)],
            "routers": sorted(parts.pipeline.scorer.routers.by_kind),
        }

    @app.get("/api/traffic")
    def traffic(request: Request) -> dict[str, Any]:
        """The latest finished requests; no prompt is ever kept. A key sees its own."""
        principal = parts.door.authenticate(request.headers)
        rows = list(parts.ledger.recent)
        if principal.meter is not None:
            rows = [row for row in rows if row.principal == principal.name]
        return traffic_document(rows, tells_keys=False)

    @app.get("/api/models")
    def models(request: Request) -> dict[str, Any]:
        """Models that the caller's key permits; with their backends where no keys are asked for."""
        principal = parts.door.authenticate(request.headers)
        return models_document(parts, principal.permits, tells_backends=is_open)

    @app.get("/api/config")
    def shown_config(request: Request) -> dict[str, Any]:
        """The configuration in force, on the gateway's own machine."""
        check_is_at_the_machine(request, config)
        return effective_config(parts)

    answer_errors(app)
    app.mount("/", ConsolePages())
    return app


def admin_pages() -> FastAPI:
    """Build the same pages for the admin port, mounted beside its routes; they want no key to load."""
    app = FastAPI(openapi_url=None)

    @app.get("/api/about")
    def about() -> Mapping[str, Any]:
        return about_document("admin", "keys")

    answer_errors(app)
    app.mount("/", ConsolePages())
    return app


def about_document(place: str, auth: str) -> Mapping[str, Any]:
    """What the page must know before it asks for a key; ``place`` is ``gateway`` or ``admin``."""
    return {
        "place": place,
        "auth": auth,
        "goals": GOALS,
        "profiles": {name: dict(weights) for name, weights in PROFILES.items()},
    }
