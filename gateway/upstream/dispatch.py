"""Ask backends in the order of the decision until one begins to answer.

The commit point lies here: an attempt counts as open when its status and headers are good and, for a
stream, its first event is parsed. Before that another backend may be asked; after it, never.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.clock import CATCH_UP_S, Clock
from gateway.errors import (
    BackendRefused,
    BadUpstreamAnswer,
    NoUsableBackend,
    StaleConnection,
    UpstreamError,
)
from gateway.settings import Hedging, Timeouts
from gateway.tasks import first_success
from gateway.telemetry.metrics import Metrics
from gateway.upstream.answers import check_kind, refusal_of
from gateway.upstream.attempts import Attempt, Trail, Tried, UpstreamCall
from gateway.upstream.backend import BackendHandle
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.retries import RetryBudget
from gateway.upstream.sse import SseParser
from gateway.upstream.transport import UpstreamResponse
from gateway.upstream.wires.wire import Question, Wire

if TYPE_CHECKING:
    from gateway.telemetry.tracing import AttemptSpan, Trace

#: Backends asked for one request, at most.
MAX_ATTEMPTS = 3
#: Kept-alive connections that may turn out to be closed before one attempt gives up.
MAX_STALE = 3
MAX_ERROR_BYTES = 64 * 1024
#: What a backend answers that has too much to do.
OVERLOAD_STATUSES = frozenset({429, 503, 529})
#: Time over which the share of second requests is kept.
HEDGE_HORIZON_S = 600.0
MAX_ANSWER_BYTES = 64 * 2**20


class OpenAnswer(msgspec.Struct):
    """A committed answer: a complete body, or the parser and first events of a stream."""

    attempt: Attempt
    wire: Wire
    response: UpstreamResponse
    parser: SseParser = msgspec.field(default_factory=SseParser)
    events: list[bytes] = []
    body: bytes = b""
    span: AttemptSpan | None = None
    is_closed: bool = False

    def note_end(self, events: int, began_s: float, now_s: float) -> None:
        """Tell the backend's health that a stream came to its end, and how fast it was."""
        health = self.attempt.backend.health
        health.succeed(now_s)
        if events > 1:
            health.token_ms.add((now_s - began_s) * 1e3 / (events - 1))

    def note_break(self, now_s: float) -> None:
        """Tell the backend's health that a stream broke off at its end of the line."""
        self.attempt.backend.health.fail(now_s)
        if self.span is not None:
            self.span.break_off()

    async def close(self) -> None:
        """Let go of the backend; a second call changes nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.span is not None:
            self.span.end()
        self.attempt.backend.health.inflight -= 1
        await self.response.close()


class _Order:
    """The backends to ask, one after the other."""

    __slots__ = ("_next", "_plan")

    def __init__(self, plan: Iterable[tuple[str, BackendHandle]]) -> None:
        self._plan = iter(plan)
        self._next: tuple[str, BackendHandle] | None = None

    def __iter__(self) -> _Order:
        return self

    def __next__(self) -> tuple[str, BackendHandle]:
        entry, self._next = self._next, None
        return entry or next(self._plan)

    def other_of(self, model: str) -> BackendHandle | None:
        """The next backend, if it serves this model, which is then taken."""
        self._next = next(self, None)
        if self._next is None or self._next[0] != model:
            return None
        entry, self._next = self._next, None
        return entry[1]


class Dispatcher:
    def __init__(
        self, timeouts: Timeouts, clock: Clock, metrics: Metrics, hedging: Hedging | None = None
    ) -> None:
        self._hedging = hedging or Hedging()
        self._hedges = RetryBudget(clock, self._hedging.share, 0.0, HEDGE_HORIZON_S)
        self._timeouts = timeouts
        self._clock = clock
        self._metrics = metrics
        self._retries = RetryBudget(clock)
        # A backend sends the head of a whole answer only when the answer is finished.
        self._stream_deadlines = Deadlines(timeouts.connect_s, timeouts.first_token_s)
        self._whole_deadlines = Deadlines(timeouts.connect_s, timeouts.answer_s)

    @property
    def hedges(self) -> bool:
        """Whether a stream that is slow to begin may be asked of a second backend."""
        return self._hedging.share > 0

    async def dispatch(
        self,
        plan: Iterable[tuple[str, BackendHandle]],
        call: UpstreamCall,
        trail: Trail,
        tried: Tried | None = None,
    ) -> OpenAnswer:
        """Return the first answer that opens; ``trail`` records every attempt.

        ``tried`` is an attempt that was made before, which counts as the first.
        Raises the last attempt's UpstreamError, or NoUsableBackend when the plan is empty.
        """
        failure = None if tried is None else _resumed(tried, trail)
        if tried is None:
            self.note_request()
        order = _Order(plan)
        why = "no backend of the chosen models can be asked now"
        for model, backend in order:
            if trail.intended is None:
                trail.intended = model
            throttle = backend.health.throttle
            if not throttle.is_calm and throttle.spares(self._clock.monotonic_s()):
                self._metrics.upstream_attempts.labels(backend.name, "spared").inc()
                why = "the backends of the chosen models turn requests away"
                continue
            if trail.attempts and not self._may_retry(trail):
                break
            attempt = Attempt(model, backend)
            trail.attempts.append(attempt)
            after_s = None
            if call.is_stream and self.hedges:
                after_s = self._hedges_after_s(backend, trail)
            try:
                if after_s is None:
                    return await self._attempt(attempt, call)
                return await self._race(attempt, call, order, trail, after_s)
            except UpstreamError as error:
                if not error.tries_elsewhere:
                    raise
                failure = error
        raise failure or NoUsableBackend(why)

    def note_request(self) -> None:
        """Count a request, which pays for a share of a retry."""
        self._retries.deposit()

    def _hedges_after_s(self, backend: BackendHandle, trail: Trail) -> float | None:
        """How long to wait for a stream before a second backend is asked, too; None: for ever.

        Never after a failure: a second request would double the load of what is in trouble.
        """
        if trail.count > 1:
            return None
        self._hedges.deposit()
        slow_ms = backend.health.slow_ms(self._hedging.after)
        return None if slow_ms is None else slow_ms / 1e3

    async def _race(
        self, first: Attempt, call: UpstreamCall, order: _Order, trail: Trail, after_s: float
    ) -> OpenAnswer:
        """Ask a second backend of the same model if the first is slow; the faster one answers."""
        asked = [first]

        def hedge() -> Coroutine[Any, Any, OpenAnswer] | None:
            backend = order.other_of(first.model)
            if backend is None or backend.health.is_paused or not self._hedges.withdraw():
                return None
            asked.append(Attempt(first.model, backend))
            trail.attempts.append(asked[1])
            return self._attempt(asked[1], call)

        answer = await first_success(self._attempt(first, call), after_s, hedge, OpenAnswer.close)
        if len(asked) > 1:
            winner = answer.attempt
            loser = asked[0] if winner is asked[1] else asked[1]
            trail.settle_race(loser)
            self._metrics.upstream_attempts.labels(loser.backend.name, "outrun").inc()
        return answer

    def _may_retry(self, trail: Trail) -> bool:
        if len(trail.attempts) == MAX_ATTEMPTS:
            return False
        if self._retries.withdraw():
            return True
        self._metrics.upstream_attempts.labels(trail.attempts[-1].backend.name, "unspent").inc()
        return False

    async def _attempt(self, attempt: Attempt, call: UpstreamCall) -> OpenAnswer:
        if call.trace is not None:
            return await self._traced_attempt(attempt, call, call.trace)
        backend = attempt.backend
        health = backend.health
        response: UpstreamResponse | None = None
        question = call.question_for(backend)
        started_s = self._clock.monotonic_s()
        health.begin(started_s)
        try:
            response = await self._open(backend, question, call)
            answer = OpenAnswer(attempt, question.wire, response)
            if call.is_stream:
                await self._read_first_event(answer, started_s)
            else:
                await self._read_whole(answer, started_s)
        except BaseException as error:
            health.inflight -= 1
            if response is not None:
                await response.close()
            if isinstance(error, UpstreamError):
                self.note_failure(backend, error)
            raise
        now_s = self._clock.monotonic_s()
        if call.is_stream:
            health.open()
            health.note_first_token((now_s - started_s) * 1e3)
        else:
            health.succeed(now_s)
        self.note_success(backend, now_s)
        return answer

    async def _traced_attempt(
        self, attempt: Attempt, call: UpstreamCall, trace: Trace
    ) -> OpenAnswer:
        """Attempt it with a span of its own, which the backend's spans hang beneath."""
        backend = attempt.backend
        span = trace.begin_attempt(attempt.model, backend.name, backend.served_model)

        def question_for(backend: BackendHandle) -> Question:
            question = call.question_for(backend)
            headers = {**question.headers, **span.headers}
            return msgspec.structs.replace(question, headers=headers)

        untraced = msgspec.structs.replace(call, question_for=question_for, trace=None)
        try:
            answer = await self._attempt(attempt, untraced)
        except BaseException as error:
            span.end(error)
            raise
        span.open()
        answer.span = span
        return answer

    async def _open(
        self, backend: BackendHandle, question: Question, call: UpstreamCall
    ) -> UpstreamResponse:
        deadlines = self._stream_deadlines if call.is_stream else self._whole_deadlines
        headers = {**question.headers, "x-request-id": call.request_id}
        path, body = question.wire.path, question.body
        for _ in range(MAX_STALE):
            try:
                return await backend.transport.open("POST", path, headers, body, deadlines)
            except StaleConnection as error:
                stale = error
        raise stale

    async def _check_head(
        self, response: UpstreamResponse, expected: str, started_s: float
    ) -> None:
        """Raise for an answer that is a refusal, or not of the kind that was asked for."""
        if response.status != 200:
            told = await self._read_error(response, started_s)
            raise refusal_of(response.status, response.headers, told)
        check_kind(response.headers, expected)

    async def _read_whole(self, answer: OpenAnswer, started_s: float) -> None:
        """Read all of an answer that is no stream, which commits it."""
        response = answer.response
        await self._check_head(response, "application/json", started_s)
        body = response.take_whole()
        if body is None or len(body) > MAX_ANSWER_BYTES:
            body = await self._read_all(response, started_s, body or b"")
        answer.body = body
        answer.wire.check_answer(body)

    async def _read_first_event(self, answer: OpenAnswer, started_s: float) -> None:
        """Read a stream up to its first event, which commits it."""
        response = answer.response
        await self._check_head(response, "text/event-stream", started_s)
        while not answer.events:
            piece = await response.read(self._first_token_remains_s(started_s))
            if not piece:
                raise BadUpstreamAnswer("the backend's stream ended before its first event")
            answer.events = answer.parser.feed(piece)
        answer.wire.check_first_event(answer.events[0])

    def _first_token_remains_s(self, started_s: float) -> float:
        remains_s = started_s + self._timeouts.first_token_s - self._clock.monotonic_s()
        return max(CATCH_UP_S, remains_s)

    async def _read_error(self, response: UpstreamResponse, started_s: float) -> bytes:
        """Read what an error says, as far as it comes: the status has told what matters."""
        body = b""
        try:
            while len(body) < MAX_ERROR_BYTES and (
                piece := await response.read(self._first_token_remains_s(started_s))
            ):
                body += piece
        except UpstreamError:
            pass
        return body

    async def _read_all(self, response: UpstreamResponse, started_s: float, begun: bytes) -> bytes:
        pieces = [begun]
        size = len(begun)
        while size <= MAX_ANSWER_BYTES:
            remaining_s = started_s + self._timeouts.total_s - self._clock.monotonic_s()
            piece = await response.read(max(0.0, remaining_s))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
        raise BadUpstreamAnswer(f"the backend's answer exceeds {MAX_ANSWER_BYTES} bytes")

    def note_success(self, backend: BackendHandle, now_s: float) -> None:
        """Count an attempt that was answered."""
        backend.health.throttle.note(now_s, accepted=True)
        self._metrics.upstream_attempts.labels(backend.name, "ok").inc()

    def note_failure(self, backend: BackendHandle, error: UpstreamError) -> None:
        """Count an attempt that came to nothing, against its backend where that is to blame."""
        self._metrics.upstream_attempts.labels(backend.name, _outcome(error)).inc()
        if isinstance(error, BackendRefused):
            is_full = error.backend_status in OVERLOAD_STATUSES
            backend.health.throttle.note(self._clock.monotonic_s(), accepted=not is_full)
        is_backends_fault = not isinstance(error, BackendRefused) or error.backend_status >= 500
        if is_backends_fault:
            backend.health.fail(self._clock.monotonic_s())


def _resumed(tried: Tried, trail: Trail) -> UpstreamError:
    """Count an attempt as the first of a request; raise its error where no other may follow."""
    trail.intended = tried.attempt.model
    trail.attempts.append(tried.attempt)
    if not tried.error.tries_elsewhere:
        raise tried.error
    return tried.error


def _outcome(error: UpstreamError) -> str:
    """How an attempt failed, from a closed set: a refusal's code is the backend's own invention."""
    if not isinstance(error, BackendRefused):
        return error.code or "backend_error"
    return (
        "status_429" if error.backend_status == 429 else f"status_{error.backend_status // 100}xx"
    )
