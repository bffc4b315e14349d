"""What a traced request notes on its way, and who decides whether it is traced.

A request only keeps moments: its spans are made of them afterwards, by the thread that exports them
(gateway.telemetry.request_spans). Imported only where the configuration has a section ``tracing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.clock import Clock
from gateway.errors import (
    BackendRefused,
    BadUpstreamAnswer,
    ConnectFailed,
    FirstByteTimeout,
    GatewayError,
    StreamInterrupted,
    UpstreamError,
)
from gateway.telemetry.finished import FinishedRequest
from gateway.telemetry.trace_context import (
    TraceContext,
    context_headers,
    is_drawn,
    new_context,
    new_span_id,
    read_context,
)

#: Of a request whose client left, or of an attempt that another one outran.
CANCELLED = "cancelled"
#: Of a stream whose backend ended it by saying that it could not answer.
BACKEND_FAILED = "backend_error"
_BACKEND_CODES = frozenset(
    kind.code
    for kind in (
        UpstreamError,
        ConnectFailed,
        FirstByteTimeout,
        BadUpstreamAnswer,
        StreamInterrupted,
    )
)


class TracedRequest(FinishedRequest, Protocol):
    """What spans tell of a finished request beside what metrics read."""

    @property
    def decision_id(self) -> str: ...
    @property
    def principal(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def attempts(self) -> int: ...


class TraceSink(Protocol):
    """Takes traces that have ended, to make spans of them elsewhere."""

    def put(self, trace: Trace) -> None: ...


class AttemptSpan:
    """One try at a backend: from the question to the end of the answer, or to what went wrong."""

    __slots__ = (
        "_clock", "backend", "began_s", "ended_s", "error", "headers", "model", "opened_s",
        "served_model", "span_id", "status",
    )  # fmt: skip

    def __init__(self, trace: Trace, model: str, backend: str, served_model: str) -> None:
        self._clock = trace.clock
        self.model = model
        self.backend = backend
        self.served_model = served_model
        self.span_id = new_span_id()
        self.headers = trace.headers_of(self.span_id)
        self.began_s = self._clock.monotonic_s()
        self.opened_s: float | None = None
        self.ended_s: float | None = None
        self.error: str | None = None
        self.status: int | None = None

    def open(self) -> None:
        """The answer has begun: no other backend will be asked instead."""
        self.opened_s = self._clock.monotonic_s()

    def break_off(self) -> None:
        """The backend left its answer unfinished."""
        self.end()
        self.error = StreamInterrupted.code

    def end(self, error: BaseException | None = None) -> None:
        """Only the first end counts."""
        if self.ended_s is not None:
            return
        self.ended_s = self._clock.monotonic_s()
        if isinstance(error, BackendRefused):
            self.status, self.error = error.backend_status, str(error.backend_status)
        elif error is not None:
            self.error = error_type(error)


class Receipt(msgspec.Struct, frozen=True):
    """What is known of a request when it has arrived; ``endpoint`` as the configuration spells it."""

    endpoint: str
    path: str
    host: str
    request_id: str
    body_bytes: int
    received_s: float


class Trace:
    """The moments of one request, in seconds of the monotonic clock, and what is told of it."""

    __slots__ = (
        "_is_random", "attempts", "clock", "ended_s", "error", "is_sampled", "is_stream", "laps",
        "parent_id", "planned_model", "receipt", "reserved_s", "row", "settled_s", "span_id",
        "state", "status", "trace_id", "wall_less_monotonic_s",
    )  # fmt: skip

    def __init__(
        self, clock: Clock, receipt: Receipt, context: TraceContext, *, is_sampled: bool
    ) -> None:
        self.clock = clock
        self.receipt = receipt
        self.trace_id = context.trace_id
        self.parent_id = context.parent_id
        self.span_id = new_span_id()
        self.state = context.state
        self.is_sampled = is_sampled
        self._is_random = context.is_random
        self.wall_less_monotonic_s = clock.wall_s() - clock.monotonic_s()
        self.attempts: list[AttemptSpan] = []
        self.laps: Sequence[float] = ()
        self.planned_model: str | None = None
        self.is_stream = False
        self.reserved_s: float | None = None
        self.settled_s: float | None = None
        self.row: TracedRequest | None = None
        self.status: int | None = None
        self.error: str | None = None
        self.ended_s = 0.0

    def headers_of(self, span_id: str) -> dict[str, str]:
        """What a backend is told: who asks, whether the trace is recorded, the caller's state."""
        return context_headers(
            self.trace_id,
            span_id,
            is_sampled=self.is_sampled,
            is_random=self._is_random,
            state=self.state,
        )

    def note_plan(self, model: str, is_stream: bool) -> None:
        """The request was understood and a choice was made."""
        self.planned_model = model
        self.is_stream = is_stream

    def note_reserved(self) -> None:
        self.reserved_s = self.clock.monotonic_s()

    def begin_attempt(self, model: str, backend: str, served_model: str) -> AttemptSpan:
        span = AttemptSpan(self, model, backend, served_model)
        if self.is_sampled:
            self.attempts.append(span)
        return span

    def note_row(self, row: TracedRequest) -> None:
        """The request is accounted for."""
        self.row = row
        self.settled_s = self.clock.monotonic_s()


class Place(msgspec.Struct, frozen=True):
    """Where a backend listens."""

    host: str
    port: int


class Tracer:
    """Begins and ends the traces of one configuration; a process has one sink for all of them."""

    def __init__(
        self, sink: TraceSink, clock: Clock, *, sample_ratio: float, follow_callers: bool
    ) -> None:
        self.sink = sink
        self._clock = clock
        self._ratio = sample_ratio
        self._follows = follow_callers

    def begin(
        self,
        endpoint: str,
        path: str,
        headers: Mapping[str, str],
        request_id: str,
        received_s: float,
        body_bytes: int,
    ) -> Trace:
        """Begin the trace of a request that has arrived, as its caller's or as a new one."""
        host = headers.get("host", "")
        receipt = Receipt(endpoint, path, host, request_id, body_bytes, received_s)
        context = read_context(headers)
        if context is not None and self._follows:
            return Trace(self._clock, receipt, context, is_sampled=context.is_sampled)
        context = context or new_context()
        is_sampled = is_drawn(context.trace_id, self._ratio)
        return Trace(self._clock, receipt, context, is_sampled=is_sampled)

    def end(self, trace: Trace, failure: GatewayError | None, *, is_whole: bool) -> None:
        """Hand a trace over for export, if it is sampled.

        ``is_whole``: the answer was sent to its end; where it was not, its client had left.
        """
        if not trace.is_sampled:
            return
        trace.ended_s = self._clock.monotonic_s()
        if failure is not None:
            trace.status, trace.error = failure.status, error_type(failure)
        elif is_whole:
            trace.status = 200
            if (
                trace.row is not None and trace.row.outcome == "error"
            ):  # the backend's own last event
                trace.error = BACKEND_FAILED
        else:
            trace.error = CANCELLED
        self.sink.put(trace)


def error_type(error: BaseException) -> str:
    """A word from a closed set: what an error's message quotes is the user's."""
    if isinstance(error, BackendRefused):
        return f"backend_{error.backend_status}"
    if isinstance(error, UpstreamError) and error.code not in _BACKEND_CODES:
        return BACKEND_FAILED  # the backend's own word for it
    if isinstance(error, GatewayError):
        return error.code or type(error).__name__
    return CANCELLED
