"""Every error of the routes that FastAPI serves, worded as OpenAI's error object."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound

_log = logging.getLogger(__name__)


def answer_errors(app: FastAPI) -> None:
    """Teach an app to answer so."""

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
