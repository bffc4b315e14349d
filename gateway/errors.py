"""Every error of the gateway, one class per reaction, and the one place that words them for HTTP.

::

    GatewayError
    ├─ ClientError 4xx      InvalidRequest · UnknownModel · NotFound · MethodNotAllowed
    │                       ReceiptTimeout · BodyTooLarge · UnsupportedMedia · HeadersTooLarge
    │                       RoutingInfeasible
    │                       Unauthenticated · BudgetSpent · Forbidden · RateLimited
    ├─ Capacity 503         Overloaded · OutOfFiles · NoUsableBackend · LimitsUnknown
    │                       StoreAway: in traffic this process counts alone instead
    ├─ UpstreamError 502    BackendRefused (status of the backend kept)
    │   ├─ before commit    ConnectFailed · FirstByteTimeout · BadUpstreamAnswer    tried elsewhere
    │   └─ after commit     StreamInterrupted                                       never retried
    ├─ ScorerError          never reaches a client: the decision degrades and says so
    ├─ ConfigError          start-up only; names file, line, column and key
    └─ LogUnreadable        commands only; names the file and the line
    ClientGone              no response; the ledger's outcome is "cancelled"

It must never leak a stack, a backend's address or more than a short piece of what the user sent.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

#: What decoding JSON from outside may raise: malformed, nested without end, or not UTF-8.
UNREADABLE_JSON = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
#: User text quoted in a message is cut to this many characters.
QUOTED_CHARS = 80


def quoted(text: object) -> str:
    """Quote a piece of user input for a message, never more than a line of it."""
    shown = repr(text)
    return shown if len(shown) <= QUOTED_CHARS else shown[: QUOTED_CHARS - 1] + "…"


class GatewayError(Exception):
    """An error that reaches the client as OpenAI's error object."""

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str | None = "internal_error"
    #: Whether the client's own retry could help; None leaves the SDK's rule in force.
    should_retry: bool | None = None
    #: How long the client should wait, where waiting helps.
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    def body(self) -> bytes:
        """OpenAI's error envelope as JSON."""
        return msgspec.json.encode({"error": self.as_object()})

    def as_object(self) -> dict[str, str | float | None]:
        """The error object itself: ``message, type, param, code``."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }


class ClientError(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    should_retry: bool | None = False


class InvalidRequest(ClientError):
    """The request itself is wrong; ``param`` names the field."""

    code = "invalid_value"


class UnknownModel(ClientError):
    """No configured model has this name."""

    status = 404
    code = "model_not_found"


class NotFound(ClientError):
    """No route, or nothing there, has this name."""

    status = 404
    code = "not_found"


class MethodNotAllowed(ClientError):
    """The route is there, for another method."""

    status = 405
    code = "method_not_allowed"


class BodyTooLarge(ClientError):
    """The body is longer than ``server.max_body_bytes``."""

    status = 413
    code = "body_too_large"


class ReceiptTimeout(ClientError):
    """The request did not arrive in the time allowed."""

    status = 408
    code = "request_timeout"


class HeadersTooLarge(ClientError):
    """The headers are too many or too long."""

    status = 431
    code = "headers_too_large"


class UnsupportedMedia(ClientError):
    """The body is not JSON, or is encoded."""

    status = 415
    code = "unsupported_media_type"


class Unauthenticated(ClientError):
    """No key, or none that is known, valid and not revoked."""

    status = 401
    code = "invalid_api_key"


class BudgetSpent(ClientError):
    """The key's budget does not cover what this request may cost."""

    status = 402
    code = "budget_exceeded"


class Forbidden(ClientError):
    """The key's policy does not permit this."""

    status = 403
    code = "not_permitted"


class RateLimited(ClientError):
    """The key has used what it may for now; waiting helps."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    should_retry = None

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RoutingInfeasible(ClientError):
    """No model honours the caller's constraints; says which one binds and what would do."""

    status = 422
    code = "routing_infeasible"

    def __init__(self, message: str, *, constraint: str, nearest: float | None) -> None:
        super().__init__(message, param=f"routing.{constraint}")
        self.constraint = constraint
        self.nearest = nearest

    def as_object(self) -> dict[str, str | float | None]:
        return {
            **super().as_object(),
            "constraint": self.constraint,
            "nearest_feasible": self.nearest,
        }


class Capacity(GatewayError):
    status = 503
    type = "server_error"
    code = "overloaded"
    retry_after_s = 1


class Overloaded(Capacity):
    """More requests in flight than the configuration admits."""


class OutOfFiles(Capacity):
    """The process has as many files and sockets open as the system lets it; no backend's fault."""

    code = "out_of_files"


class NoUsableBackend(Capacity):
    """No backend of a suitable model can be asked now."""

    code = "no_usable_backend"


class LimitsUnknown(Capacity):
    """What a key has used, or which keys there are, cannot be looked up now."""

    code = "limits_unavailable"


class StoreAway(Capacity):
    """What processes share cannot be reached; only who manages keys is told."""

    code = "store_unavailable"


class UpstreamError(GatewayError):
    """A backend failed. ``tries_elsewhere`` says whether another may be asked instead."""

    status = 502
    type = "server_error"
    code = "backend_error"
    should_retry = False
    tries_elsewhere: bool = True


class ConnectFailed(UpstreamError):
    """The backend cannot be reached."""

    code = "backend_unreachable"


class StaleConnection(ConnectFailed):
    """A kept-alive connection was closed by the backend before it answered anything."""


class FirstByteTimeout(UpstreamError):
    """The backend did not answer in time."""

    status = 504
    code = "backend_timeout"


class BadUpstreamAnswer(UpstreamError):
    """The backend answered something that is not the protocol."""

    code = "backend_protocol_error"


class StreamInterrupted(UpstreamError):
    """The answer broke off after the client had received part of it."""

    code = "stream_interrupted"
    tries_elsewhere = False


class BackendRefused(UpstreamError):
    """The backend answered with an error status of its own."""

    #: Statuses that say "not now, not here", so that another backend may be asked.
    ELSEWHERE: ClassVar[frozenset[int]] = frozenset({429, 500, 502, 503, 504, 529})

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.backend_status = status
        self.tries_elsewhere = status in self.ELSEWHERE
        # A backend that rejects our own credentials is our fault, not the client's.
        self.status = status if 400 <= status < 600 and status not in {401, 403} else 502

    def as_object(self) -> dict[str, str | float | None]:
        kind = "invalid_request_error" if self.status < 500 else self.type
        return {**super().as_object(), "type": kind}


class ScorerError(GatewayError):
    """The router model could not score a prompt; the decision goes on without it."""


class ConfigError(GatewayError):
    """The configuration cannot be used; the message names the key's path and the remedy."""


class LogUnreadable(GatewayError):
    """A decision log cannot be read; the message names the file and the line."""


class ClientGone(Exception):
    """The client left. Nobody is there to answer."""
