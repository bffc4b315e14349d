"""One streamed chat on the short way: committed in the callback that brings its first event.

Until then it is an errand like any other, which may be handed to the long way; from then on the relay
of the long way passes its events on.
"""

from __future__ import annotations

import asyncio

import msgspec

from gateway.decision.endpoints import CHAT_WIRE
from gateway.decision.readability import Sample, text_of_stream
from gateway.errand import Errand
from gateway.errors import (
    BadUpstreamAnswer,
    ClientGone,
    GatewayError,
    Overloaded,
    StreamInterrupted,
)
from gateway.ledger.accounting import Outcome, used_of
from gateway.short_way import PlainQuestion
from gateway.strands import Cancellable, Strand
from gateway.upstream.answers import check_kind
from gateway.upstream.attempts import Attempt
from gateway.upstream.connection import NO_BEGINNING, NO_END
from gateway.upstream.dispatch import OpenAnswer
from gateway.upstream.lean import LeanResponse
from gateway.upstream.sse import SseParser
from gateway.upstream.stream import Progress, Sink, StreamRelay

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OPTIONS = b'"stream_options"'
_WITH_USAGE = b'{"include_usage":true}'


class StreamErrand(Errand):
    """See the module."""

    __slots__ = ("_first_token_s", "_parser", "_progress", "_prompt_tokens", "_wants_usage")
    _first_token_s: float
    _prompt_tokens: int
    _wants_usage: bool

    def begin(self, question: PlainQuestion, laps: list[float], kept_in: set[Cancellable]) -> bool:
        self._parser = SseParser()
        self._progress = Progress()
        self._prompt_tokens, self._wants_usage = question.prompt_tokens, question.wants_usage
        return super().begin(question, laps, kept_in)

    def _worded(self, question: PlainQuestion) -> bytes:
        """Always asks for usage, since what was used must be known."""
        body = super()._worded(question)
        if question.wants_usage:
            return body
        if _OPTIONS not in body:
            return b"%b,%b:%b}" % (body.rstrip()[:-1], _OPTIONS, _WITH_USAGE)
        return msgspec.json.encode(
            {**_fields.decode(body), "stream_options": msgspec.Raw(_WITH_USAGE)}
        )

    def _wait(self) -> None:
        complaint = NO_END if self._connection.has_head else NO_BEGINNING
        ends_s = self._sent_s + self._pipeline.timeouts.first_token_s
        self._connection.news(ends_s, complaint).hold(self)

    def _take_news(self) -> None:
        connection = self._connection
        if not connection.has_head or connection.status != 200:
            super()._take_news()
            return
        check_kind(connection.headers, "text/event-stream")
        events = self._parser.feed(connection.take()) if connection.has_piece else []
        if events:
            CHAT_WIRE.check_first_event(events[0])
            self._commit(events)
        elif connection.is_complete:
            raise BadUpstreamAnswer("the backend's stream ended before its first event")
        else:
            self._wait()

    def _commit(self, events: list[bytes]) -> None:
        """Leave the answer to the relay: no other backend is asked from here on."""
        pipeline, connection = self._pipeline, self._connection
        now_s = self._first_token_s = pipeline.clock.monotonic_s()
        health = self._backend.health
        health.open()
        health.note_first_token((now_s - self._received_s - self._overhead_s) * 1e3)
        pipeline.dispatcher.note_success(self._backend, now_s)
        attempt = Attempt(self._way.model.name, self._backend)
        response = LeanResponse(connection, self._client.release)
        answer = OpenAnswer(attempt, CHAT_WIRE, response, self._parser, events)
        self._is_asking = False  # the answer gives the connection back
        strand = Strand(self._pass_on(answer), asyncio.get_running_loop(), self._kept_in)
        self._successor = strand
        strand.advance()

    async def _pass_on(self, answer: OpenAnswer) -> None:
        """Relay the stream and account for it, however it ends."""
        outcome: Outcome = "error"
        error_code: str | None = None
        try:
            await self._relay(answer)
            outcome = "error" if self._progress.has_failed else "ok"
        except ClientGone:
            outcome = "cancelled"
        except asyncio.CancelledError:
            outcome = "cancelled"
            if not self._reply.has_left:
                shutdown = Overloaded("the gateway is shutting down")
                self._reply.fail_now(shutdown, self._identity())
        except GatewayError as error:
            error_code = error.code
            self._reply.fail_now(error, self._identity())
        except Exception:
            # The error boundary of the data path: a client never waits for an answer in vain.
            error_code = self._fail_internally()
        finally:
            await answer.close()
            self._account_stream(outcome, error_code)

    async def _relay(self, answer: OpenAnswer) -> None:
        pipeline, reply, progress = self._pipeline, self._reply, self._progress
        model = self._way.model
        reader = CHAT_WIRE.reader(model.name, self._price_usd, wants_usage=self._wants_usage)
        reply.begin_stream_plainly(self._header_lines(), reader.error_event)
        sink: Sink = Sample(reply) if model.readability.wants_answer() else reply
        relay = StreamRelay(reader, pipeline.timeouts, pipeline.clock)
        try:
            await relay.run(answer, sink, progress)
        except StreamInterrupted:
            answer.note_break(pipeline.clock.monotonic_s())
            raise
        answer.note_end(progress.events, self._first_token_s, pipeline.clock.monotonic_s())
        reply.end_stream_now()
        if isinstance(sink, Sample):
            model.readability.note(text_of_stream(bytes(sink.sent)))

    def _account_stream(self, outcome: Outcome, error_code: str | None) -> None:
        usage = used_of(self._progress, self._prompt_tokens)
        ttft_ms = (self._first_token_s - self._received_s) * 1e3
        self._account(outcome, usage, error_code, self._price_usd(usage), ttft_ms)
