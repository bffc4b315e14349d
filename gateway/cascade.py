"""Ask a cheaper model first and keep its answer where it is sure enough; else nobody sees it.

The answer is held back until the verdict, also where a stream was asked for. Whatever goes wrong
with it is no error of the request: then the model that was chosen is asked, as without a cascade.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gateway.clock import Clock
from gateway.decision.catalog import Catalog
from gateway.decision.endpoints import CHAT
from gateway.decision.request import ParsedRequest
from gateway.errors import GatewayError, UpstreamError
from gateway.ledger.accounting import Reservation
from gateway.settings import Timeouts
from gateway.telemetry.metrics import Metrics
from gateway.upstream.attempts import Trail, UpstreamCall
from gateway.upstream.backend import BackendHandle
from gateway.upstream.dispatch import Dispatcher, OpenAnswer
from gateway.upstream.stream import StreamRelay
from gateway.upstream.sureness import (
    HeldAnswer,
    HoldingReader,
    ask_for_logprobs,
    read_verdict,
    verdict_question,
)
from gateway.upstream.wires.openai import ChatWire
from gateway.upstream.wires.wire import Question, Wire
from policies.types import Cascade

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Trace

#: Endpoints whose answers tell the log-probabilities of their tokens.
_TELLING = ("chat", "completions")
_CHAT_WIRE = ChatWire("/chat/completions")


class Kept(msgspec.Struct, frozen=True):
    """An answer that was sure enough: what the backend said, still in its own words."""

    model: str
    wire: Wire
    pieces: list[bytes]


class _Nowhere:
    """Where the bytes of a stream go that is only held."""

    takes_chunks = False

    def write(self, data: bytes) -> bool:
        return True

    def write_chunk(self, data: bytes) -> bool:
        return True

    async def drain(self) -> None: ...


class FirstQuestion(msgspec.Struct, frozen=True):
    """What the cheaper model is asked, and how sure its answer has to be.

    ``ask`` is the human's question, which a verifier reads beside the answer.
    """

    request: ParsedRequest
    request_id: str
    ask: str
    cascade: Cascade
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class FirstTry:
    """One instance serves every cascade of a process."""

    catalog: Catalog
    dispatcher: Dispatcher
    timeouts: Timeouts
    clock: Clock
    metrics: Metrics

    async def ask(
        self, model: str, question: FirstQuestion, record: Reservation, trail: Trail
    ) -> Kept | None:
        """Return the answer of ``model`` if it is to be kept.

        Else ``record`` accounts for it, and ``trail`` begins anew and says why.
        """
        request, cascade = question.request, question.cascade
        held = HeldAnswer(hides_logprobs="logprobs" not in request.fields)
        call = UpstreamCall(
            request.is_stream,
            question.request_id,
            partial(_question, request, cascade, held),
            question.trace,
        )
        try:
            answer = await self.dispatcher.dispatch(self._backends(model, request), call, trail)
            try:
                await self._hold(answer, held, request, record)
            finally:
                await answer.close()
            sureness = await self._judge(held, question, record)
        except GatewayError as error:
            self._reject(model, "failed", error.code or "failed", record, trail)
            return None
        if sureness is None or sureness < cascade.accept:
            shown = "unsure" if sureness is None else f"{sureness:.2f} of {cascade.accept:g}"
            self._reject(model, "escalated", shown, record, trail)
            return None
        self.metrics.cascades.labels(model, "accepted").inc()
        trail.verdict = f"cascade: {model} kept at {sureness:.2f}"
        record.keep_first_try(model, trail.verdict)
        return Kept(model, answer.wire, held.pieces)

    def _reject(
        self, model: str, result: str, shown: str, record: Reservation, trail: Trail
    ) -> None:
        self.metrics.cascades.labels(model, result).inc()
        if trail.attempts:
            record.discard(trail.attempts[-1])
        trail.start_over(f"cascade: {model} {shown}")

    def _backends(self, model: str, request: ParsedRequest) -> Iterator[tuple[str, BackendHandle]]:
        endpoint = request.endpoint
        usable = self.catalog.models[model].usable_backends(self.clock.monotonic_s(), endpoint.name)
        for backend in usable:
            # What is put into chat's words is answered in them.
            if endpoint.name in _TELLING or endpoint.name not in backend.endpoints:
                yield model, backend

    async def _hold(
        self, answer: OpenAnswer, held: HeldAnswer, request: ParsedRequest, record: Reservation
    ) -> None:
        progress = record.progress
        if not request.is_stream:
            progress.usage = held.add(answer.body)
            return
        began_s = self.clock.monotonic_s()
        relay = StreamRelay(HoldingReader(held), self.timeouts, self.clock)
        try:
            await relay.run(answer, _Nowhere(), progress)
        except UpstreamError:
            answer.note_break(self.clock.monotonic_s())
            raise
        answer.note_end(progress.events, began_s, self.clock.monotonic_s())

    async def _judge(
        self, held: HeldAnswer, question: FirstQuestion, record: Reservation
    ) -> float | None:
        verifier = question.cascade.verifier
        if verifier is None:
            return held.sureness
        if not held.text:
            return None
        model = self.catalog.models[verifier]
        fields = verdict_question(question.ask, held.text)
        call = UpstreamCall(
            False, question.request_id, partial(_chat_question, fields), question.trace
        )
        usable = model.usable_backends(self.clock.monotonic_s(), CHAT.name)
        answer = await self.dispatcher.dispatch(
            ((model.name, backend) for backend in usable), call, Trail()
        )
        await answer.close()
        verdict = HeldAnswer(hides_logprobs=False)
        record.spend(answer.attempt, verdict.add(answer.body))
        return read_verdict(answer.body)


def _question(
    request: ParsedRequest, cascade: Cascade, held: HeldAnswer, backend: BackendHandle
) -> Question:
    question = request.question_for(backend)
    if cascade.verifier is not None or not held.hides_logprobs:
        return question
    body = ask_for_logprobs(question.body, question.wire.path)
    return msgspec.structs.replace(question, body=body)


def _chat_question(fields: dict[str, object], backend: BackendHandle) -> Question:
    asked = {**fields, "model": backend.served_model, **backend.extra_fields}
    return Question(_CHAT_WIRE, msgspec.json.encode(asked), {})
