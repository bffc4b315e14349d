"""The routes that carry traffic, as plain ASGI: receive a body, hand it to the pipeline."""

from __future__ import annotations

import logging

from gateway.api.exchange import Exchange, Receive, Scope, Send
from gateway.clock import Clock
from gateway.config import Config
from gateway.decision.request import Endpoint
from gateway.errors import ClientGone, GatewayError, MethodNotAllowed
from gateway.pipeline import Incoming, Pipeline
from gateway.tasks import TaskGroup

_log = logging.getLogger(__name__)


class DataRoute:
    """An ASGI app for one endpoint of the data path."""

    def __init__(
        self, endpoint: Endpoint, pipeline: Pipeline, config: Config, clock: Clock, tasks: TaskGroup
    ) -> None:
        self._endpoint = endpoint
        self._pipeline = pipeline
        self._max_body_bytes = config.server.max_body_bytes
        self._send_s = config.timeouts.send_s
        self._clock = clock
        self._tasks = tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received_s = self._clock.monotonic_s()
        exchange = Exchange(scope, receive, send, self._send_s)
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"{scope['path']} takes POST")
            body = await exchange.read_json_body(self._max_body_bytes)
            incoming = Incoming(
                self._endpoint, exchange.request_id, exchange.headers, body, received_s
            )
            async with exchange.watched(self._tasks):
                await self._pipeline.serve(incoming, exchange)
        except ClientGone:
            return
        except GatewayError as error:
            await exchange.fail(error, {"x-request-id": exchange.request_id})
        except Exception:
            # The error boundary of the data path: a client never waits for an answer in vain.
            _log.exception("request %s failed", exchange.request_id)
            internal = GatewayError("an internal error occurred")
            await exchange.fail(internal, {"x-request-id": exchange.request_id})
