"""uvicorn's HTTP protocol with bounds on what a client may do, and a short way for traffic.

A request for a data route goes straight from the parser to its ``DataRoute``; every other one takes
uvicorn's way into the ASGI application. Bounds hold for both: bytes and number of headers, time for a
request to arrive, and no connection is kept for a client that does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.api.exchange import NO_BOUNDS, Exchange
from gateway.app import Gateway
from gateway.clock import CATCH_UP_S, has_stalled
from gateway.errors import (
    BodyTooLarge,
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    ReceiptTimeout,
)
from gateway.same_head import SameHead, remember
from gateway.server.traffic_cycle import TrafficCycle
from gateway.strands import Cancellable, Strand

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
#: How long a connection that is not served may stay silent.
UNSERVED_S = 1.0
_HEAD_TOO_LARGE = HeadersTooLarge(
    f"send at most {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes of them"
)
#: The event loop's clock ticks in milliseconds, and a timer may come within one.
_TIMER_GRAIN_S = 0.01
#: Names of headers as clients write them, in lower case; looked up, not made anew for each request.
_FIELD_NAMES = {
    spelled.encode(): name
    for name in (
        *("accept", "accept-encoding", "accept-language", "authorization", "connection"),
        *("content-length", "content-type", "host", "user-agent", "x-request-id"),
        *("x-stainless-arch", "x-stainless-async", "x-stainless-lang", "x-stainless-os"),
        *("x-stainless-package-version", "x-stainless-retry-count", "x-stainless-runtime"),
        *("x-stainless-runtime-version", "x-stainless-read-timeout", "x-stainless-helper-method"),
    )
    for spelled in (name, name.title())
}


class GuardedHttp(HttpToolsProtocol):
    """One client's connection; see the module. Built by uvicorn for each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gateway = cast(Gateway, self.app)
        self._receive_s = self._gateway.parts.config.timeouts.receive_s
        self.strands = cast("set[Cancellable]", self.tasks)
        #: The headers of the request, by lower-case name.
        self.fields: dict[str, str] = {}
        self._is_usual = False
        #: Messages begun on this connection, and the head of the last one, where it may be said again.
        self._messages = 0
        self._same: SameHead | None = None
        self._is_in_head = False
        self._is_receiving = False
        self._head_bytes = 0
        self._is_head_too_large = False
        self._receipt_timer: asyncio.TimerHandle | None = None
        self._idle_since_s = 0.0
        self._standing_headers: tuple[object, str] = (None, "")
        self._has_room = True
        self._patience_s = float(self.timeout_keep_alive)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._has_room = self._gateway.room.serves(len(self.connections))
        if not self._has_room and len(self.connections) > self._gateway.room.most:
            transport.abort()
            return
        # Who connects and asks nothing is let go like one who has nothing more to ask.
        self._patience_s = self.timeout_keep_alive if self._has_room else UNSERVED_S
        self._idle_since_s = self.loop.time()
        self._watch_idleness(self._patience_s)

    def data_received(self, data: bytes) -> None:
        is_between = not self._is_receiving and (self.cycle is None or self.cycle.response_complete)
        if is_between and self._same is not None and self._take_same(self._same, data):
            return
        begun = self._messages
        self._feed(data)
        if is_between and not self._is_receiving and self._messages == begun + 1:
            self._remember(data)

    def _feed(self, data: bytes) -> None:
        continues_head = self._is_in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            self.send_400_response("")
            return
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

    def _remember(self, data: bytes) -> None:
        """Keep the head of a request that came in one piece, if its next one could begin alike."""
        cycle: object = self.cycle
        self._same = None
        if (
            isinstance(cycle, TrafficCycle)
            and cycle.is_usual
            and cycle.is_post
            and cycle.keep_alive
        ):
            self._same = remember(data, self.fields, self.url.partition(b"?")[0])

    def _take_same(self, same: SameHead, data: bytes) -> bool:
        """Take a request in whose head the parser has read before; False when it is none."""
        body = same.body_of(data)
        if body is None or self._gateway.is_draining:
            return False
        self.fields = same.fields
        cycle = TrafficCycle(self, self._gateway.data_routes[same.path], keep_alive=True)
        cycle.is_usual = cycle.is_received = True
        self.cycle = cast(RequestResponseCycle, cycle)
        try:
            cycle.receive(body)
        except BodyTooLarge as error:
            cycle.refuse(error)
        else:
            cycle.set_out(self)  # its headers were checked when they were read
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_receipt_timer()
        for cycle in (self.cycle, *(queued for queued, _ in self.pipeline)):
            work = getattr(cycle, "work", None)
            if work is not None and not cycle.response_complete:
                work.cancel()
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._is_in_head = self._is_receiving = True
        self._messages += 1
        self._head_bytes = 0
        # The scope of ASGI is left to who takes that way.
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            self._is_head_too_large = True
            raise ValueError("headers beyond bounds")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        expects_continue = self._read_fields(version)
        self._is_in_head = False
        routes = self._gateway.data_routes
        route = routes.get(self.url) or routes.get(self.url.partition(b"?")[0])
        if route is None:
            self.expect_100_continue = expects_continue
            self._enter_asgi()
            return
        earlier = self.cycle
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        if self._gateway.is_draining or not self._has_room:  # its next one is better sent elsewhere
            keep_alive = False
        cycle = TrafficCycle(self, route, keep_alive=keep_alive)
        cycle.expects_continue = expects_continue
        cycle.has_room = self._has_room
        cycle.is_usual = self._is_usual
        method = self.parser.get_method()
        if method != b"POST":
            cycle.is_post = False
            cycle.is_head_request = method == b"HEAD"
        if version == "1.0":
            cycle.is_http_1_0 = True
        self.cycle = cast(RequestResponseCycle, cycle)
        if earlier is None or earlier.response_complete:
            cycle.begin(self)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _read_fields(self, version: str) -> bool:
        """Take the headers in; return whether the client waits to be told to go on."""
        fields: dict[str, str] = {}
        size = hosts = 0
        is_usual = True
        for name, value in self.headers:
            size += len(name) + len(value)
            field = _FIELD_NAMES.get(name)
            if field is None:
                field = name.lower().decode("latin-1")
                is_usual = False
            if field == "host":
                hosts += 1
            fields[field] = value.decode("latin-1")
        if size > MAX_HEAD_BYTES:
            self._is_head_too_large = True
            raise ValueError("headers beyond bounds")
        if hosts != 1 and (hosts or version == "1.1"):
            raise ValueError("RFC 9112 §3.2 asks for one host")
        self.fields = fields
        self._is_usual = is_usual
        return fields.get("expect", "").lower() == "100-continue"

    def _enter_asgi(self) -> None:
        url, headers, expects_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects_continue
        # Into the list that the scope holds.
        self.headers.extend([(name.lower(), value) for name, value in headers])
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

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        strand = Strand(work, self.loop, self.strands)
        self.loop.call_soon(strand.advance)

    def send_400_response(self, msg: str) -> None:
        if self._is_head_too_large:
            self._reject(_HEAD_TOO_LARGE)
        else:
            self._reject(InvalidRequest("this is not a valid HTTP request", code="invalid_http"))

    # keeping a connection that has nothing to do

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since_s = self.loop.time()

    def _unset_keepalive_if_required(self) -> None:
        """The timer outlives many requests: it looks at what happened since, and goes on."""

    def _watch_idleness(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.is_closing():
            return
        timer = self.timeout_keep_alive_task
        if timer is not None and has_stalled(self.loop, timer.when()):
            self._watch_idleness(CATCH_UP_S)
            return
        is_busy = self._is_receiving or (
            self.cycle is not None and not self.cycle.response_complete
        )
        idle_s = 0.0 if is_busy else self.loop.time() - self._idle_since_s
        if idle_s < self._patience_s - _TIMER_GRAIN_S:
            self._watch_idleness(self._patience_s - idle_s)
        elif self.transport.get_write_buffer_size() > 0:
            self.transport.abort()
        else:
            self.transport.close()

    def _receipt_expired(self) -> None:
        timer, self._receipt_timer = self._receipt_timer, None
        if timer is not None and has_stalled(self.loop, timer.when()):
            self._receipt_timer = self.loop.call_later(CATCH_UP_S, self._receipt_expired)
            return
        self._reject(ReceiptTimeout(f"the request did not arrive within {self._receive_s:g} s"))

    def _reject(self, error: GatewayError) -> None:
        """End the connection over a request that never became one."""
        self._stop_receipt_timer()
        if self.transport.is_closing():
            return
        cycle: object = self.cycle
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and (self._is_in_head or not self._is_receiving):
            exchange = Exchange(self, {}, NO_BOUNDS, keep_alive=False)
            exchange.fail_now(error, {"x-request-id": exchange.request_id})
        elif isinstance(cycle, TrafficCycle) and cycle.work is None and not is_idle:
            cycle.keep_alive = False
            cycle.refuse(error)
        self.transport.close()
        self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _stop_receipt_timer(self) -> None:
        if self._receipt_timer is not None:
            self._receipt_timer.cancel()
            self._receipt_timer = None
