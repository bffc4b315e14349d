"""Serve the console: static files, and the recent requests that the page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from gateway.console.learning import learning_router
from gateway.errors import GatewayError
from gateway.ledger.accounting import NANOS_PER_USD, LedgerRow
from gateway.parts import Parts

_STATIC = Path(__file__).parent / "static"
_SHOWN = 25


def console_app(parts: Parts) -> FastAPI:
    """Build the app that is mounted at ``/console``."""
    app = FastAPI(openapi_url=None)
    app.include_router(learning_router(parts))

    @app.get("/api/recent")
    def recent(request: Request) -> list[dict[str, Any]]:
        """The latest finished requests, newest first; no prompt is ever kept.

        A key sees its own.
        """
        principal = parts.door.authenticate(request.headers)
        rows = list(parts.ledger.recent)
        if principal.meter is not None:
            rows = [row for row in rows if row.principal == principal.name]
        rows = rows[-_SHOWN:]
        return [_shown(row) for row in reversed(rows)]

    @app.exception_handler(GatewayError)
    async def gateway_error(_: Request, error: GatewayError) -> Response:
        return Response(error.body(), error.status, media_type="application/json")

    app.mount("/", StaticFiles(directory=_STATIC, html=True))
    return app


def _shown(row: LedgerRow) -> dict[str, Any]:
    return {
        "at_s": row.at_s,
        "model": row.model,
        "profile": row.profile,
        "reason": row.reason,
        "outcome": row.outcome,
        "predicted_quality": row.predicted_quality,
        "completion_tokens": row.usage.completion_tokens,
        "cost_usd": None if row.cost_nanos is None else row.cost_nanos / NANOS_PER_USD,
        "ttft_ms": row.ttft_ms,
        "duration_ms": row.duration_ms,
    }
