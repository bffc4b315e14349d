"""Ask backends in the order of the decision until one begins to answer.

The commit point lies here: an attempt counts as open when its status and headers are good and, for a
stream, its first event is parsed. Before that another backend may be asked; after it, never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from gateway.clock import Clock
from gateway.errors import (
    BackendRefused,
    BadUpstreamAnswer,
    NoUsableBackend,
    StaleConnection,
    UpstreamError,
)
from gateway.settings import Timeouts
from gateway.telemetry.metrics import Metrics
from gateway.upstream.answers import read_refusal, read_retry_after
from gateway.upstream.backend import BackendHandle
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.retries import RetryBudget
from gateway.upstream.sse import SseParser
from gateway.upstream.transport import UpstreamResponse
from gateway.upstream.wires.wire import Question, Wire

#: Backends asked for one request, at most.
MAX_ATTEMPTS = 3
#: Kept-alive connections that may turn out to be closed before one attempt gives up.
MAX_STALE = 3
MAX_ERROR_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 64 * 2**20


class UpstreamCall(msgspec.Struct, frozen=True):
    """What is asked, whichever backend gets it."""

    is_stream: bool
    request_id: str
    question_for: Callable[[BackendHandle], Question]


class Attempt(msgspec.Struct, frozen=True):
    model: str
    backend: BackendHandle


class Trail(msgspec.Struct):
    """The attempts made for one request, in order; the last one is the one that counts.

    ``earlier`` counts those of a first try that came to nothing; ``verdict`` is what became of it.
    """

    attempts: list[Attempt] = msgspec.field(default_factory=list)
    earlier: int = 0
    verdict: str | None = None

    @property
    def count(self) -> int:
        return self.earlier + len(self.attempts)

    def start_over(self, verdict: str) -> None:
        self.earlier += len(self.attempts)
        self.attempts.clear()
        self.verdict = verdict

    @property
    def fallback_from(self) -> str | None:
        """The model chosen first, when another one answered."""
        first, last = self.attempts[0].model, self.attempts[-1].model
        return first if first != last else None


class OpenAnswer(msgspec.Struct):
    """A committed answer: a complete body, or the parser and first events of a stream."""

    attempt: Attempt
    wire: Wire
    response: UpstreamResponse
    parser: SseParser
    events: list[bytes]
    body: bytes

    def note_end(self, events: int, began_s: float, now_s: float) -> None:
        """Tell the backend's health that a stream came to its end, and how fast it was."""
        health = self.attempt.backend.health
        health.succeed(now_s)
        if events > 1:
            health.token_ms.add((now_s - began_s) * 1e3 / (events - 1))

    def note_break(self, now_s: float) -> None:
        """Tell the backend's health that a stream broke off at its end of the line."""
        self.attempt.backend.health.fail(now_s)

    async def close(self) -> None:
        self.attempt.backend.health.inflight -= 1
        await self.response.close()


class Dispatcher:
    def __init__(self, timeouts: Timeouts, clock: Clock, metrics: Metrics) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._metrics = metrics
        self._retries = RetryBudget(clock)
        # A backend sends the head of a whole answer only when the answer is finished.
        self._stream_deadlines = Deadlines(timeouts.connect_s, timeouts.first_token_s)
        self._whole_deadlines = Deadlines(timeouts.connect_s, timeouts.answer_s)

    async def dispatch(
        self, plan: Iterable[tuple[str, BackendHandle]], call: UpstreamCall, trail: Trail
    ) -> OpenAnswer:
        """Return the first answer that opens; ``trail`` records every attempt.

        Raises the last attempt's UpstreamError, or NoUsableBackend when the plan is empty.
        """
        failure: UpstreamError | None = None
        self._retries.deposit()
        for model, backend in plan:
            if trail.attempts and not self._may_retry(trail):
                break
            question = call.question_for(backend)
            attempt = Attempt(model, backend)
            trail.attempts.append(attempt)
            try:
                return await self._attempt(attempt, question, call)
            except UpstreamError as error:
                self._note_failure(attempt, error)
                if not error.tries_elsewhere:
                    raise
                failure = error
        raise failure or NoUsableBackend("no backend of the chosen models can be asked now")

    def _may_retry(self, trail: Trail) -> bool:
        if len(trail.attempts) == MAX_ATTEMPTS:
            return False
        if self._retries.withdraw():
            return True
        self._metrics.upstream_attempts.labels(trail.attempts[-1].backend.name, "unspent").inc()
        return False

    async def _attempt(
        self, attempt: Attempt, question: Question, call: UpstreamCall
    ) -> OpenAnswer:
        backend = attempt.backend
        started_s = self._clock.monotonic_s()
        backend.health.begin(started_s)
        response: UpstreamResponse | None = None
        try:
            response = await self._open(backend, question, call)
            answer = OpenAnswer(attempt, question.wire, response, SseParser(), [], b"")
            await self._read_first(answer, call, started_s)
        except BaseException:
            backend.health.inflight -= 1
            if response is not None:
                await response.close()
            raise
        now_s = self._clock.monotonic_s()
        if call.is_stream:
            backend.health.open()
            backend.health.ttft_ms.add((now_s - started_s) * 1e3)
        else:
            backend.health.succeed(now_s)
        self._metrics.upstream_attempts.labels(backend.name, "ok").inc()
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

    async def _read_first(self, answer: OpenAnswer, call: UpstreamCall, started_s: float) -> None:
        """Read as much as commits the answer: all of a plain one, the first event of a stream."""
        response = answer.response
        if response.status != 200:
            refusal = read_refusal(response.status, await self._read_error(response, started_s))
            refusal.retry_after_s = read_retry_after(response.headers)
            raise refusal
        if response.headers.get("content-encoding", "identity") != "identity":
            raise BadUpstreamAnswer("the backend encoded its answer, which was not asked for")
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        expected = "text/event-stream" if call.is_stream else "application/json"
        if content_type != expected:
            raise BadUpstreamAnswer(f"the backend answered {content_type!r}, not {expected}")
        if not call.is_stream:
            answer.body = await self._read_all(response, started_s)
            answer.wire.check_answer(answer.body)
            return
        while not answer.events:
            piece = await response.read(self._first_token_remains_s(started_s))
            if not piece:
                raise BadUpstreamAnswer("the backend's stream ended before its first event")
            answer.events = answer.parser.feed(piece)
        answer.wire.check_first_event(answer.events[0])

    def _first_token_remains_s(self, started_s: float) -> float:
        return max(0.0, started_s + self._timeouts.first_token_s - self._clock.monotonic_s())

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

    async def _read_all(self, response: UpstreamResponse, started_s: float) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            remaining_s = started_s + self._timeouts.total_s - self._clock.monotonic_s()
            piece = await response.read(max(0.0, remaining_s))
            if not piece:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise BadUpstreamAnswer(f"the backend's answer exceeds {MAX_ANSWER_BYTES} bytes")

    def _note_failure(self, attempt: Attempt, error: UpstreamError) -> None:
        backend = attempt.backend
        self._metrics.upstream_attempts.labels(backend.name, _outcome(error)).inc()
        is_backends_fault = not isinstance(error, BackendRefused) or error.backend_status >= 500
        if is_backends_fault:
            backend.health.fail(self._clock.monotonic_s())


def _outcome(error: UpstreamError) -> str:
    """How an attempt failed, from a closed set: a refusal's code is the backend's own invention."""
    if not isinstance(error, BackendRefused):
        return error.code or "backend_error"
    return (
        "status_429" if error.backend_status == 429 else f"status_{error.backend_status // 100}xx"
    )
