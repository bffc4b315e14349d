"""The service: routes of the data path by their path, and FastAPI for the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Response
from starlette.responses import RedirectResponse
from starlette.types import Receive, Scope, Send

from gateway import __version__
from gateway.api.control import control_router
from gateway.api.data_path import DataRoute
from gateway.api.error_answers import answer_errors
from gateway.api.feedback import feedback_router
from gateway.api.openapi import describe_data_path
from gateway.console.routes import console_app
from gateway.decision.endpoints import CHAT, ENDPOINTS
from gateway.errors import ConfigError
from gateway.express import open_express
from gateway.open_files import room
from gateway.parts import Parts, build_parts
from gateway.settings import Config
from gateway.tasks import TaskGroup

_log = logging.getLogger(__name__)

#: How often it is looked whether a configuration that was replaced still has requests.
RETIRE_EVERY_S = 0.5


class Gateway:
    """What one process serves: ``data_routes`` by ``server.http_protocol``, as ASGI what is left.

    FastAPI's own routing costs more than everything the gateway does for a request. ``reread`` reads
    the configuration again; None where there is no file.
    """

    parts: Parts
    data_routes: Mapping[bytes, DataRoute]

    def __init__(self, parts: Parts, reread: Callable[[], Config] | None = None) -> None:
        self._reread = reread
        self._reloading = asyncio.Lock()
        #: What outlives any one configuration.
        self.tasks = TaskGroup()
        self.room = room()
        #: Whether new requests are still welcome; a balancer that asks is told.
        self.is_draining = False
        self._take(parts, _control_app(parts, self))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._control(scope, receive, send)

    async def reload(self) -> None:
        """Read the configuration again and serve by it from now on; what is under way ends as it began.

        Raises ConfigError when it cannot be used; then the one in force stays.
        """
        if self._reread is None:
            raise ConfigError("there is no configuration file to read again")
        async with self._reloading:
            before = self.parts
            reads = before.metrics.config_reloads
            try:
                config = await asyncio.to_thread(self._reread)
                parts = await asyncio.to_thread(build_parts, config, None, before)
                control = await asyncio.to_thread(_control_app, parts, self)
            except ConfigError as error:
                reads.labels("refused").inc()
                _log.error("the configuration was not reloaded: %s", error)
                raise
            before.yield_to(parts)
            parts.begin()
            self._take(parts, control)
            self.tasks.spawn("retire", _retire(before, parts))
            reads.labels("ok").inc()
            _log.info("the configuration was reloaded")

    async def reload_or_log(self) -> None:
        """Reload for whom nobody waits: an error is logged, and that is all."""
        with suppress(ConfigError):
            await self.reload()

    def _take(self, parts: Parts, control: FastAPI) -> None:
        self.parts = parts
        self._control = control
        express = open_express(parts.pipeline)
        self.data_routes = {
            f"/v1{endpoint.path}".encode(): DataRoute(
                endpoint,
                parts.pipeline,
                parts.config,
                parts.clock,
                parts.tracer,
                express if endpoint is CHAT else None,
            )
            for endpoint in ENDPOINTS
        }


async def _retire(before: Parts, heir: Parts) -> None:
    """Close what served until now when its last request has ended."""
    ends_by_s = before.clock.monotonic_s() + before.config.timeouts.total_s
    while (  # noqa: ASYNC110 - no request pays for an event that is set once in a gateway's life
        before.ledger.open_reservations and before.clock.monotonic_s() < ends_by_s
    ):
        await asyncio.sleep(RETIRE_EVERY_S)
    await before.close(heir)


def create_app(config: Config, reread: Callable[[], Config] | None = None) -> Gateway:
    """Build the service. Raises ConfigError when the configuration cannot be served."""
    return Gateway(build_parts(config), reread)


def _control_app(parts: Parts, gateway: Gateway) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.begin()
        parts.standing.process_watch.start()
        try:
            yield
        finally:
            await gateway.tasks.close()
            await gateway.parts.close()

    app = FastAPI(title="Thalamus", version=__version__, lifespan=lifespan)
    app.include_router(control_router(parts, lambda: gateway.is_draining))
    app.include_router(feedback_router(parts))
    app.mount("/console", console_app(parts))
    describe_data_path(app)

    @app.get("/", include_in_schema=False)
    def front_page() -> Response:
        return RedirectResponse("/console/")

    answer_errors(app)
    return app
