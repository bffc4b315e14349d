"""uvicorn's HTTP protocol with bounds on what a client may do, and a short way for traffic.

A request for a data route goes straight from the parser to its ``DataRoute``; every other one takes
uvicorn's way into the ASGI application. Bounds hold for both: bytes and number of headers, time for a
request to arrive, and no connection is kept for a client that does not read.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.api.data_path import DataRoute
from gateway.api.exchange import Exchange
from gateway.app import Gateway
from gateway.errors import (
    BodyTooLarge,
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    ReceiptTimeout,
)
from gateway.tasks import start_task

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
_HEAD_TOO_LARGE = HeadersTooLarge(
    f"send at most {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes of them"
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _NobodyWaits:
    """Stands in for the event that uvicorn sets for a reader of the body."""

    def set(self) -> None: ...


class TrafficCycle(Exchange):
    """An exchange in the place where uvicorn's protocol keeps what it is answering."""

    __slots__ = ("_has_turn", "_route", "disconnected", "expects_continue", "is_post", "task")
    message_event = _NobodyWaits()

    def __init__(self, protocol: GuardedHttp, route: DataRoute, *, keep_alive: bool) -> None:
        super().__init__(
            protocol,
            protocol.headers,
            keep_alive=keep_alive,
            max_body_bytes=route.max_body_bytes,
            send_s=route.send_s,
            error_body=route.error_body,
        )
        self._route = route
        self.disconnected = False
        self.expects_continue = protocol.expect_100_continue
        self.is_post = True
        self.task: asyncio.Task[None] | None = None
        self._has_turn = False

    def refuse(self, error: GatewayError) -> None:
        """Answer at once; what still arrives of the body is ignored."""
        self.fail_now(error, {"x-request-id": self.request_id})

    def begin(self, protocol: GuardedHttp) -> None:
        """Take the turn on the connection: earlier requests on it are answered."""
        if self.has_left:
            return
        self._has_turn = True
        try:
            if not self.is_post:
                raise MethodNotAllowed("this route takes POST")
            self.check_headers()
        except GatewayError as error:
            self.refuse(error)
            return
        if self.expects_continue and not self.is_received:
            protocol.transport.write(_CONTINUE)
        self._start_when_ready(protocol)

    def end_receipt(self, protocol: GuardedHttp) -> None:
        self.is_received = True
        self._start_when_ready(protocol)

    def _start_when_ready(self, protocol: GuardedHttp) -> None:
        if self._has_turn and self.is_received and not self.response_complete:
            self.task = start_task(self._route.serve(self), protocol.loop, protocol.tasks)


class GuardedHttp(HttpToolsProtocol):
    """One client's connection; see the module. Built by uvicorn for each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gateway = cast(Gateway, self.app)
        self._receive_s = self._gateway.parts.config.timeouts.receive_s
        self._is_in_head = False
        self._is_receiving = False
        self._head_bytes = self._field_bytes = self._hosts = 0
        self._is_head_too_large = False
        self._receipt_timer: asyncio.TimerHandle | None = None
        self._standing_headers: tuple[object, str] = (None, "")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Who connects and asks nothing is let go like one who has nothing more to ask.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        continues_head = self._is_in_head
        super().data_received(data)
        if continues_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._reject(_HEAD_TOO_LARGE)
                return
        if self._is_receiving:
            if self._receipt_timer is None:
                self._receipt_timer = self.loop.call_later(self._receive_s, self._receipt_expired)
        elif self._receipt_timer is not None:
            self._stop_receipt_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_receipt_timer()
        for cycle in (self.cycle, *(queued for queued, _ in self.pipeline)):
            task = getattr(cycle, "task", None)
            if task is not None and not cycle.response_complete:
                task.cancel()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._is_in_head = self._is_receiving = True
        self._head_bytes = self._field_bytes = self._hosts = 0
        # The scope of ASGI is left to who takes that way.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value)
        if len(self.headers) >= MAX_HEADERS or self._field_bytes > MAX_HEAD_BYTES:
            self._is_head_too_large = True
            raise ValueError("headers beyond bounds")
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() == "1.1"):
            raise ValueError("RFC 9112 §3.2 asks for one host")
        route = self._gateway.data_routes.get(self.url.partition(b"?")[0])
        if route is None:
            self._enter_asgi()
            return
        earlier = self.cycle
        version = self.parser.get_http_version()
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        if self._gateway.is_draining:  # its next request is better sent elsewhere
            keep_alive = False
        cycle = TrafficCycle(self, route, keep_alive=keep_alive)
        cycle.is_http_1_0 = version == "1.0"
        method = self.parser.get_method()
        cycle.is_post = method == b"POST"
        cycle.is_head_request = method == b"HEAD"
        self.cycle = cast(RequestResponseCycle, cycle)
        if earlier is None or earlier.response_complete:
            cycle.begin(self)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _enter_asgi(self) -> None:
        url, headers, expects_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects_continue
        self.headers.extend(headers)  # the list that the scope holds
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        cycle: object = self.cycle
        if not isinstance(cycle, TrafficCycle):
            super().on_body(body)
        elif not cycle.response_complete:
            try:
                cycle.receive(body)
            except BodyTooLarge as error:
                cycle.refuse(error)

    def on_message_complete(self) -> None:
        self._is_receiving = False
        cycle: object = self.cycle
        if not isinstance(cycle, TrafficCycle):
            super().on_message_complete()
        else:
            cycle.end_receipt(self)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Called when a pipelined request gets its turn, too."""
        own: object = cycle
        if isinstance(own, TrafficCycle):
            self.loop.call_soon(own.begin, self)
        else:
            super()._start_asgi_task(cycle, app)

    # bounds

    def standing_headers(self) -> str:
        pairs = self.server_state.default_headers  # a new list whenever the date changes
        known_pairs, lines = self._standing_headers
        if pairs is not known_pairs:
            lines = "".join([f"{name.decode()}: {value.decode()}\r\n" for name, value in pairs])
            self._standing_headers = (pairs, lines)
        return lines

    def send_400_response(self, msg: str) -> None:
        if self._is_head_too_large:
            self._reject(_HEAD_TOO_LARGE)
        else:
            self._reject(InvalidRequest("this is not a valid HTTP request", code="invalid_http"))

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size() > 0:
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _receipt_expired(self) -> None:
        self._receipt_timer = None
        self._reject(ReceiptTimeout(f"the request did not arrive within {self._receive_s:g} s"))

    def _reject(self, error: GatewayError) -> None:
        """End the connection over a request that never became one."""
        self._stop_receipt_timer()
        if self.transport.is_closing():
            return
        cycle: object = self.cycle
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and (self._is_in_head or not self._is_receiving):
            exchange = Exchange(self, (), keep_alive=False, max_body_bytes=0, send_s=0)
            exchange.fail_now(error, {"x-request-id": exchange.request_id})
        elif isinstance(cycle, TrafficCycle) and cycle.task is None and not is_idle:
            cycle.keep_alive = False
            cycle.refuse(error)
        self.transport.close()
        self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _stop_receipt_timer(self) -> None:
        if self._receipt_timer is not None:
            self._receipt_timer.cancel()
            self._receipt_timer = None
