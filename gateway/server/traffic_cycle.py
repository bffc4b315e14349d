"""One request for a data route, in the place where uvicorn's protocol keeps what it is answering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.api.data_path import DataRoute
from gateway.api.exchange import Exchange
from gateway.errors import GatewayError, MethodNotAllowed, OutOfFiles

if TYPE_CHECKING:
    from gateway.server.http_protocol import GuardedHttp

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _NobodyWaits:
    """Stands in for the event that uvicorn sets for a reader of the body."""

    def set(self) -> None: ...


class TrafficCycle(Exchange):
    """An exchange in the place where uvicorn's protocol keeps what it is answering."""

    message_event = _NobodyWaits()
    disconnected = False
    expects_continue = False
    is_post = True
    has_room = True
    _has_turn = False

    def __init__(self, protocol: GuardedHttp, route: DataRoute, *, keep_alive: bool) -> None:
        super().__init__(protocol, protocol.fields, route.bounds, keep_alive=keep_alive)
        self._route = route

    def refuse(self, error: GatewayError) -> None:
        """Answer at once; what still arrives of the body is ignored."""
        self.fail_now(error, {"x-request-id": self.request_id})

    def begin(self, protocol: GuardedHttp) -> None:
        """Take the turn on the connection: earlier requests on it are answered."""
        if self.has_left:
            return
        self._has_turn = True
        try:
            if not self.has_room:
                raise OutOfFiles("the gateway serves as many connections as its open files allow")
            if not self.is_post:
                raise MethodNotAllowed("this route takes POST")
            self.check_headers()
        except GatewayError as error:
            self.refuse(error)
            return
        if self.is_received:
            self.set_out(protocol)
        elif self.expects_continue:
            protocol.transport.write(_CONTINUE)

    def end_receipt(self, protocol: GuardedHttp) -> None:
        self.is_received = True
        if self._has_turn and not self.response_complete:
            self.set_out(protocol)

    def set_out(self, protocol: GuardedHttp) -> None:
        work = self._route.start(self, protocol.loop, protocol.strands)
        if not self.response_complete:
            self.work = work
