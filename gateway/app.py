"""The service: routes of the data path by their path, and FastAPI for the rest."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.types import Receive, Scope, Send

import gateway
from gateway.api.control import control_router
from gateway.api.data_path import DataRoute
from gateway.api.feedback import feedback_router
from gateway.api.openapi import describe_data_path
from gateway.console.routes import console_app
from gateway.decision.endpoints import ENDPOINTS
from gateway.decision.reload import watch_artifact
from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from gateway.parts import Parts, build_parts
from gateway.settings import Config
from gateway.tenancy.principals import KeyDoor
from gateway.upstream.probe import probe_forever
from gateway.upstream.watch import watch_forever

_log = logging.getLogger(__name__)


class Gateway:
    """What one process serves: ``data_routes`` by ``server.http_protocol``, as ASGI what is left.

    FastAPI's own routing costs more than everything the gateway does for a request.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.data_routes = {
            f"/v1{endpoint.path}".encode(): DataRoute(
                endpoint, parts.pipeline, parts.config, parts.clock
            )
            for endpoint in ENDPOINTS
        }
        self._control = _control_app(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._control(scope, receive, send)


def create_app(config: Config) -> Gateway:
    """Build the service. Raises ConfigError when the configuration cannot be served."""
    return Gateway(build_parts(config))


def _control_app(parts: Parts) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        backends = [backend for _, backend in parts.catalog.backends]
        parts.tasks.spawn("probe", probe_forever(backends))
        if parts.catalog.watched:
            parts.tasks.spawn("signals", watch_forever(parts.catalog.watched, parts.clock))
        if isinstance(parts.door, KeyDoor):
            parts.tasks.spawn("keys", parts.door.keep_up())
        parts.tasks.spawn("router", watch_artifact(parts.config, parts.adopt_routers))
        parts.process_watch.start()
        try:
            yield
        finally:
            await parts.close()

    app = FastAPI(title="Thalamus", version=gateway.__version__, lifespan=lifespan)
    app.include_router(control_router(parts))
    app.include_router(feedback_router(parts))
    app.mount("/console", console_app(parts))
    describe_data_path(app)

    @app.get("/", include_in_schema=False)
    def front_page() -> Response:
        return RedirectResponse("/console/")

    @app.exception_handler(GatewayError)
    async def gateway_error(_: Request, error: GatewayError) -> Response:
        told = {"www-authenticate": "Bearer"} if error.status == 401 else None
        return Response(error.body(), error.status, told, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        kind = MethodNotAllowed if error.status_code == 405 else NotFound
        told = kind(f"{request.method} {request.url.path[:80]}: {error.detail}")
        answer = await gateway_error(request, told)
        if error.headers is not None and "Allow" in error.headers:  # RFC 9110 §15.5.6
            answer.headers["Allow"] = error.headers["Allow"]
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await gateway_error(request, InvalidRequest(str(error.errors()[:1])))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return await gateway_error(request, GatewayError("an internal error occurred"))

    return app
