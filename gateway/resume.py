"""A stream that breaks off is continued by another replica of its model, where the operator wants it.

The only place where a backend is asked after the client has had bytes; see ``upstream.continued``
for which answers can be continued. The client sees one stream, under one id, with one end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from gateway.clock import Clock
from gateway.decision.catalog import Catalog
from gateway.decision.endpoints import CHAT
from gateway.decision.request import ParsedRequest
from gateway.errors import Capacity, StreamInterrupted, UpstreamError
from gateway.ledger.accounting import Reservation
from gateway.settings import Timeouts
from gateway.telemetry.metrics import Metrics
from gateway.upstream.attempts import Trail, UpstreamCall
from gateway.upstream.backend import BackendHandle
from gateway.upstream.continued import ContinuedReader, Delivered, continued
from gateway.upstream.dispatch import Dispatcher, OpenAnswer
from gateway.upstream.stream import Sink, StreamRelay
from gateway.upstream.wires.openai import ChatReader
from gateway.upstream.wires.wire import EventReader, Question


class Resumption(msgspec.Struct):
    """One request whose stream may be continued, and how far it has come."""

    request: ParsedRequest
    delivered: Delivered = msgspec.field(default_factory=Delivered)
    #: What it asks for leaves its answer continuable.
    is_possible: bool = False

    def question_for(self, backend: BackendHandle) -> Question:
        """What a backend is asked, at first and again."""
        question = self.request.question_for(backend)
        asked = continued(question, self.delivered) if backend.resumes else None
        self.is_possible = asked is not None
        return asked or question

    def reader(self, inner: EventReader) -> EventReader:
        """``inner``, or one that notes what it delivers."""
        if not self.is_possible or not isinstance(inner, ChatReader):
            return inner
        options = self.request.fields.get("stream_options", msgspec.Raw(b"null"))
        asked = msgspec.json.decode(options) or {}
        shows_counts = bool(asked.get("continuous_usage_stats"))
        return ContinuedReader(inner, self.delivered, shows_counts=shows_counts)


class Stream(msgspec.Struct, frozen=True):
    """One stream on its way to a client."""

    request_id: str
    reader: EventReader
    sink: Sink
    #: None where it cannot be continued whatever happens.
    resumption: Resumption | None


def _may_go_on(
    resumption: Resumption, interruption: StreamInterrupted, record: Reservation
) -> bool:
    """Whether what broke off can be continued, and was not the request's own fault."""
    cause = interruption.__cause__
    is_elsewheres = not isinstance(cause, UpstreamError) or cause.tries_elsewhere
    is_continuable = resumption.is_possible and resumption.delivered.is_plain
    return is_continuable and is_elsewheres and not record.progress.has_finish


@dataclass(frozen=True, slots=True)
class Resumer:
    """One instance serves every stream of a process."""

    catalog: Catalog
    dispatcher: Dispatcher
    timeouts: Timeouts
    clock: Clock
    metrics: Metrics

    def prepare(self, request: ParsedRequest) -> Resumption | None:
        """None for what cannot be continued whatever a backend is asked."""
        if not self.catalog.resumes or not request.is_stream or request.endpoint is not CHAT:
            return None
        return Resumption(request)

    async def run(
        self, stream: Stream, answer: OpenAnswer, record: Reservation, trail: Trail
    ) -> None:
        """Relay a stream, going on elsewhere where it breaks off and that is wanted.

        Raises StreamInterrupted when nobody could go on. The health of whoever was asked hears of it.
        """
        resumption = stream.resumption
        if resumption is None:
            relay = StreamRelay(stream.reader, self.timeouts, self.clock)
            try:
                await relay.run(answer, stream.sink, record.progress)
            except StreamInterrupted:
                answer.note_break(self.clock.monotonic_s())
                raise
        else:
            answer = await self._run_on(stream, resumption, answer, record, trail)
        now_s = self.clock.monotonic_s()
        if record.resumes:
            answer.attempt.backend.health.succeed(now_s)
        else:
            answer.note_end(record.progress.events, record.first_token_s or now_s, now_s)

    async def _run_on(
        self,
        stream: Stream,
        resumption: Resumption,
        answer: OpenAnswer,
        record: Reservation,
        trail: Trail,
    ) -> OpenAnswer:
        """Relay until an answer comes to its end, and return that one; all are closed."""
        relay = StreamRelay(resumption.reader(stream.reader), self.timeouts, self.clock)
        ends_by_s = self.clock.monotonic_s() + self.timeouts.total_s
        tried = [answer.attempt.backend]
        try:
            while True:
                try:
                    await relay.run(answer, stream.sink, record.progress, ends_by_s)
                    return answer
                except StreamInterrupted as interruption:
                    answer.note_break(self.clock.monotonic_s())
                    await answer.close()
                    is_late = self.clock.monotonic_s() >= ends_by_s
                    if is_late or not _may_go_on(resumption, interruption, record):
                        raise
                    used = resumption.delivered.break_off()
                    answer.attempt.backend.health.tokens_booked += used
                    call = UpstreamCall(
                        True, stream.request_id, resumption.question_for, record.trace
                    )
                    backends = self._others(answer.attempt.model, resumption, tried)
                    try:
                        answer = await self.dispatcher.dispatch(backends, call, trail)
                    except (UpstreamError, Capacity) as error:
                        self._count(answer, "failed")
                        raise interruption from error
                    self._count(answer, "continued")
                    record.resumes += 1
                    tried.append(answer.attempt.backend)
                    told = f": broke off; {answer.attempt.backend.name} goes on\n\n"
                    if not stream.sink.write(told.encode()):
                        await stream.sink.drain()
        finally:
            await answer.close()

    def _count(self, answer: OpenAnswer, result: str) -> None:
        self.metrics.stream_resumes.labels(answer.attempt.model, result).inc()

    def _others(
        self, model: str, resumption: Resumption, tried: list[BackendHandle]
    ) -> Iterator[tuple[str, BackendHandle]]:
        now_s = self.clock.monotonic_s()
        for backend in self.catalog.models[model].usable_backends(now_s, CHAT.name):
            if backend in tried:
                continue
            resumption.question_for(backend)
            if resumption.is_possible:
                yield model, backend
