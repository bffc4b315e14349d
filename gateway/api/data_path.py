"""The routes that carry traffic: from a received request to the pipeline, and the error boundary."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from gateway.api.exchange import Bounds, Exchange
from gateway.clock import Clock
from gateway.decision.endpoints import COUNT_TOKENS, MESSAGES, Endpoint
from gateway.errors import ClientGone, GatewayError, Overloaded
from gateway.express import Express
from gateway.pipeline import Incoming, Pipeline
from gateway.settings import Config
from gateway.strands import Cancellable, Strand
from gateway.upstream.attempts import Tried

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Tracer

_log = logging.getLogger(__name__)


class DataRoute:
    """One endpoint of the data path, with the bounds that hold while a request is received."""

    def __init__(
        self,
        endpoint: Endpoint,
        pipeline: Pipeline,
        config: Config,
        clock: Clock,
        tracer: Tracer | None = None,
        express: Express | None = None,
    ) -> None:
        """``express`` is the short way, where this endpoint has one; a traced request has none."""
        self._endpoint = endpoint
        self._express = express if tracer is None else None
        self._is_anthropic = endpoint in (MESSAGES, COUNT_TOKENS)
        self._pipeline = pipeline
        self._clock = clock
        self._tracer = tracer
        self.bounds = Bounds(
            config.server.max_body_bytes, config.timeouts.send_s, endpoint.error_body
        )

    def start(
        self, exchange: Exchange, loop: asyncio.AbstractEventLoop, kept_in: set[Cancellable]
    ) -> Cancellable:
        """Begin to answer a request that has arrived whole; what is returned can be cancelled."""

        def go_on(tried: Tried | None = None) -> Cancellable:
            strand = Strand(self.serve(exchange, tried), loop, kept_in)
            strand.advance()
            return strand

        if self._express is not None and exchange.is_usual:
            errand = self._express.take(exchange, exchange.body(), go_on, kept_in)
            if errand is not None:
                return errand
        return go_on()

    async def serve(self, exchange: Exchange, tried: Tried | None = None) -> None:
        """Answer a request. Whatever happens, the client hears of an end.

        ``tried`` is the attempt that was made for it already.
        """
        request_id = exchange.request_id
        headers = exchange.headers
        if self._is_anthropic and "x-api-key" in headers:
            # Where Anthropic's clients put it.
            headers.setdefault("authorization", f"Bearer {headers['x-api-key']}")
        body = exchange.take_body()
        received_s = self._clock.monotonic_s()
        trace = None
        if self._tracer is not None:
            trace = self._tracer.begin(
                self._endpoint.name, self._endpoint.path, headers, request_id, received_s, len(body)
            )
        incoming = Incoming(self._endpoint, request_id, headers, body, received_s, trace)
        try:
            await self._pipeline.serve(incoming, exchange, tried)
        except ClientGone:
            return
        except asyncio.CancelledError:
            if exchange.has_left:
                return
            # The time to drain is over; the answer ends here, and says so.
            exchange.fail_now(Overloaded("the gateway is shutting down"), _identity(request_id))
            raise
        except GatewayError as error:
            exchange.fail_now(error, _identity(request_id))
        except Exception:
            # The error boundary of the data path: a client never waits for an answer in vain.
            _log.exception("request %s failed", request_id)
            internal = GatewayError("an internal error occurred")
            exchange.fail_now(internal, _identity(request_id))
        finally:
            if trace is not None and self._tracer is not None:
                self._tracer.end(trace, exchange.failure, is_whole=exchange.response_complete)
            if not exchange.response_complete:
                exchange.abort()


def _identity(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id}
