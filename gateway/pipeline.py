"""The story of one request, top to bottom.

receive → authenticate → admit → parse (+flags) → featurise → score → choose → reserve → dispatch
→ stream → account. Each arrow hands over a frozen value; no step knows more than its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.cascade import FirstQuestion, FirstTry, Kept
from gateway.clock import Clock
from gateway.decision.catalog import Catalog
from gateway.decision.decide import Decider, RoutedDecision
from gateway.decision.endpoints import CHAT, Endpoint
from gateway.decision.features import PromptFeatures, featurise
from gateway.decision.flags import (
    FlagError,
    ModelRequest,
    ParsedFlags,
    RoutingFields,
    parse_flags,
    parse_model_name,
)
from gateway.decision.inline_flags import take_inline_flags
from gateway.decision.readability import Sample, text_of_answer, text_of_stream
from gateway.decision.request import ParsedRequest, parse_request
from gateway.decision.scoring import Predictions, Scorer
from gateway.decision.sessions import Sessions
from gateway.errors import (
    ClientGone,
    GatewayError,
    InvalidRequest,
    RoutingInfeasible,
    quoted,
)
from gateway.ledger.accounting import Ledger, Reservation
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.feedback import Feedback
from gateway.resume import Resumer, Resumption, Stream
from gateway.routing_headers import routing_headers
from gateway.settings import Timeouts
from gateway.telemetry.metrics import Metrics
from gateway.tenancy.limits import Admission, Hold, priority_of
from gateway.tenancy.meters import Meter
from gateway.tenancy.principals import Door, Principal
from gateway.upstream.attempts import Trail, Tried, UpstreamCall
from gateway.upstream.backend import BackendHandle
from gateway.upstream.dispatch import Dispatcher, OpenAnswer
from gateway.upstream.stream import Sink
from gateway.upstream.wires.wire import ErrorEvent

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Trace


class Incoming(msgspec.Struct, frozen=True):
    """One request as received: bounded, identified, not yet understood."""

    endpoint: Endpoint
    request_id: str
    headers: Mapping[str, str]
    body: bytes
    received_s: float
    #: What notes its moments, where requests are traced.
    trace: Trace | None = None


class Reply(Sink, Protocol):
    """The client's end of the exchange."""

    async def begin_stream(self, headers: Mapping[str, str], error_event: ErrorEvent) -> None:
        """Begin a stream; ``error_event`` words an error that has to end it."""

    async def answer(self, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole answer with status 200."""

    async def fail(self, error: GatewayError, headers: Mapping[str, str]) -> None:
        """Send an error object: as the answer, or as the last event of a stream that began."""

    async def end_stream(self) -> None: ...


class Plan(msgspec.Struct, frozen=True):
    """Everything known before a backend is asked."""

    request_id: str
    request: ParsedRequest
    features: PromptFeatures
    decision: RoutedDecision
    principal: Principal
    overhead_s: float
    #: How much of the prompt lies along the nearest pilot; None where nobody looked.
    nearness: float | None = None

    def headers(self, trail: Trail) -> dict[str, str]:
        headers = routing_headers(self.request_id, self.decision, trail, self.overhead_s)
        meter = self.principal.meter
        return headers if meter is None else {**headers, **meter.headers()}


class _Read(msgspec.Struct, frozen=True):
    """A request understood, and not yet scored."""

    incoming: Incoming
    principal: Principal
    request: ParsedRequest
    model: ModelRequest
    flags: ParsedFlags
    features: PromptFeatures
    is_scored: bool
    laps: list[float]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One instance serves every request of a process; it holds parts, never a request's state."""

    timeouts: Timeouts
    catalog: Catalog
    scorer: Scorer
    sessions: Sessions
    decider: Decider
    dispatcher: Dispatcher
    first_try: FirstTry
    resumer: Resumer
    ledger: Ledger
    door: Door
    admission: Admission
    metrics: Metrics
    clock: Clock
    decision_log: DecisionLog | None
    feedback: Feedback | None

    async def serve(self, incoming: Incoming, reply: Reply, tried: Tried | None = None) -> None:
        """Answer one request with a model's words or one error; ``tried`` failed on the short way."""
        headers = {"x-request-id": incoming.request_id}
        meter: Meter | None = None
        try:
            principal = self.door.authenticate(incoming.headers)
            meter = principal.meter
            self.admission.enter(priority_of(incoming.headers, principal.policy))
            try:
                if meter is not None:
                    meter.check()  # before work is spent on who would be refused
                await self._serve_principal(incoming, principal, reply, tried)
            finally:
                self.admission.leave()
        except GatewayError as error:  # before a decision; after it, _answer tells the client
            if meter is not None:
                headers.update(meter.headers())
            self.metrics.requests.labels("none", "none", "rejected").inc()
            await reply.fail(error, headers)

    async def _serve_principal(
        self, incoming: Incoming, principal: Principal, reply: Reply, tried: Tried | None
    ) -> None:
        plan = await self.planned(incoming, principal)
        record = self.ledger.reserve(
            plan.request_id,
            plan.decision,
            plan.features.prompt_tokens,
            incoming.received_s,
            principal.name,
        )
        meter = principal.meter
        trace = incoming.trace
        if trace is not None:
            record.trace = trace
            trace.note_plan(plan.request.model, plan.request.is_stream)
        hold: Hold | None = None
        try:
            if meter is not None:
                tokens = plan.features.prompt_tokens + round(plan.decision.chosen.output_tokens)
                hold = await meter.reserve(tokens, record.held_nanos or 0)
            if trace is not None:
                trace.note_reserved()
            await self._answer(plan, record, reply, tried)
        except GatewayError as error:  # the key's limits: _answer tells the client of all else
            record.error_code = error.code
            await reply.fail(error, plan.headers(Trail()))
        finally:
            row = self.ledger.settle(record)
            if row is not None:
                if row.outcome == "ok" and incoming.endpoint.makes_text:
                    session_id = plan.decision.selected.flags.session_id
                    self.sessions.note(principal.name, session_id, plan.features, row.model)
                if meter is not None and hold is not None:
                    meter.settle(hold, row.total_tokens, row.cost_nanos or 0)
                if self.decision_log is not None:
                    self.decision_log.note(plan.decision, plan.features, row)
                if self.feedback is not None:
                    self.feedback.note(row)

    async def planned(
        self, incoming: Incoming, principal: Principal, *, always_scored: bool = False
    ) -> Plan:
        """Decide as ``plan`` does; a router that takes milliseconds reads outside the event loop."""
        read = self._read(incoming, principal, always_scored)
        if not read.is_scored:
            return self._choose(read, self.scorer.prior)
        kind = read.flags.flags.router
        if self.scorer.is_slow:
            predictions = await asyncio.to_thread(self.scorer.score, read.features.ask, kind)
        else:
            predictions = self.scorer.score(read.features.ask, kind)
        return self._choose(read, predictions)

    def plan(
        self, incoming: Incoming, principal: Principal, *, always_scored: bool = False
    ) -> Plan:
        """Decide who should answer, without asking anybody.

        Who names a model gets it whatever a score would say: only ``always_scored`` scores it.
        Raises ClientError for what is wrong with the request, Capacity when nobody can answer.
        """
        read = self._read(incoming, principal, always_scored)
        if not read.is_scored:
            return self._choose(read, self.scorer.prior)
        return self._choose(read, self.scorer.score(read.features.ask, read.flags.flags.router))

    def _read(self, incoming: Incoming, principal: Principal, always_scored: bool) -> _Read:
        """Parse and featurise: all that is known before the prompt is scored."""
        laps = [self.clock.monotonic_s()]
        if incoming.trace is not None:
            incoming.trace.laps = laps
        request = parse_request(incoming.body, incoming.endpoint, incoming.headers)
        inline: RoutingFields | None = None
        try:
            if principal.routing is not None and principal.routing.reads_inline_flags:
                request, inline = take_inline_flags(request)
            model = parse_model_name(request.model)
            flags = parse_flags(model, incoming.headers, request.routing, principal.routing, inline)
        except FlagError as error:
            raise InvalidRequest(str(error), param=error.field) from error
        self.decider.check_model(model)
        principal.check_model(model.pinned)
        if flags.flags.cascade is not None:
            self._check_verifier(flags.flags.cascade.verifier, principal)
        laps.append(self.clock.monotonic_s())
        prompt = request.prompt
        features = featurise(
            prompt.text,
            prompt.size_bytes,
            request.fields,
            request.max_output_tokens,
            prompt.longest_bytes,
        )
        laps.append(self.clock.monotonic_s())
        is_open = model.pinned is None or flags.flags.needs_quality
        is_scored = always_scored or (is_open and incoming.endpoint.makes_text)
        return _Read(incoming, principal, request, model, flags, features, is_scored, laps)

    def _choose(self, read: _Read, predictions: Predictions) -> Plan:
        """Decide among the candidates, knowing what the router expects of each."""
        laps = read.laps
        laps.append(self.clock.monotonic_s())
        features = read.features
        try:
            session_id = read.flags.flags.session_id
            pin = self.sessions.find(read.principal.name, session_id, features)
            decision = self.decider.decide(
                read.incoming.endpoint, read.model, read.flags, features, predictions, pin
            )
        except RoutingInfeasible as error:
            self.metrics.infeasible.labels(error.constraint).inc()
            raise
        laps.append(self.clock.monotonic_s())
        overhead_s = laps[-1] - read.incoming.received_s
        self.metrics.observe_decision(laps, overhead_s, predictions.nearness)
        return Plan(
            read.incoming.request_id,
            read.request,
            features,
            decision,
            read.principal,
            overhead_s,
            predictions.nearness,
        )

    def _check_verifier(self, name: str | None, principal: Principal) -> None:
        if name is None:
            return
        model = self.catalog.models.get(name)
        if model is None or not model.serves(CHAT.name):
            text = f"routing.cascade.verifier must name a configured chat model, not {quoted(name)}"
            raise InvalidRequest(text, param="routing.cascade.verifier")
        principal.check_model(name)

    async def _answer(
        self, plan: Plan, record: Reservation, reply: Reply, tried: Tried | None
    ) -> None:
        """Dispatch and stream. However it ends, ``record`` says so when this returns or raises."""
        trail = Trail()
        request = plan.request
        resumption = self.resumer.prepare(request)
        question_for = (resumption or request).question_for
        call = UpstreamCall(request.is_stream, plan.request_id, question_for, record.trace)
        try:
            if plan.decision.plan.first_try is not None:
                kept = await self._try_first(plan, record, trail)
                if kept is not None:
                    await self._send_kept(kept, plan, record, trail, reply)
                    record.outcome = "ok"
                    return
            answer = await self.dispatcher.dispatch(self._backends(plan, tried), call, trail, tried)
            record.note_outrun(trail)
            try:
                await self._relay(answer, plan, record, trail, reply, resumption)
            finally:
                await answer.close()
            record.outcome = "error" if record.progress.has_failed else "ok"
        except GatewayError as error:
            record.error_code = error.code
            await reply.fail(error, plan.headers(trail))
        except (asyncio.CancelledError, ClientGone):  # nobody is there to answer
            record.outcome = "cancelled"
            raise
        finally:
            record.note_attempts(trail)

    def _backends(self, plan: Plan, tried: Tried | None) -> Iterator[tuple[str, BackendHandle]]:
        """Who to ask, in order: every usable backend of the best model, then of the next.

        What is no text belongs to its model (vectors, counts of tokens): no other one stands in.
        """
        endpoint = plan.request.endpoint
        order = plan.decision.plan.order
        for name in order if endpoint.makes_text else order[:1]:
            model = self.catalog.models[name]
            prefix = plan.request.prefix() if model.balances_by_prefix else None
            for backend in model.usable_backends(self.clock.monotonic_s(), endpoint.name, prefix):
                if tried is None or backend is not tried.attempt.backend:
                    yield name, backend

    async def _try_first(self, plan: Plan, record: Reservation, trail: Trail) -> Kept | None:
        """Ask the cheaper model of a cascade; its answer, if it is sure enough to be kept."""
        model = plan.decision.plan.first_try
        cascade = plan.decision.selected.flags.cascade
        if model is None or cascade is None:
            return None
        question = FirstQuestion(
            plan.request, plan.request_id, plan.features.ask, cascade, record.trace
        )
        return await self.first_try.ask(model, question, record, trail)

    async def _send_kept(
        self, kept: Kept, plan: Plan, record: Reservation, trail: Trail, reply: Reply
    ) -> None:
        """Pass on an answer that was held back: in one go, also as a stream."""
        price = self.ledger.pricer(record, kept.model)
        if not plan.request.is_stream:
            body, _ = kept.wire.restamp(kept.pieces[0], kept.model, price)
            await reply.answer(plan.headers(trail), body)
            return
        record.first_token_s = self.clock.monotonic_s()
        reader = kept.wire.reader(kept.model, price, wants_usage=plan.request.wants_usage)
        await reply.begin_stream(plan.headers(trail), reader.error_event)
        chunks = [reader.take(piece).data for piece in kept.pieces]
        kept_data = b"".join([data for data in chunks if data is not None])
        if not reply.write(kept_data + reader.end()):
            await reply.drain()
        await reply.end_stream()

    async def _relay(
        self,
        answer: OpenAnswer,
        plan: Plan,
        record: Reservation,
        trail: Trail,
        reply: Reply,
        resumption: Resumption | None,
    ) -> None:
        """Pass a committed answer on, naming the model that served and what it cost."""
        model = answer.attempt.model
        price = self.ledger.pricer(record, model)
        progress = record.progress
        readability = self.catalog.models[model].readability
        is_measured = readability.wants_answer()
        if not plan.request.is_stream:
            body, progress.usage = answer.wire.restamp(answer.body, model, price)
            await reply.answer(plan.headers(trail), body)
            if is_measured:
                readability.note(text_of_answer(body))
            return
        record.first_token_s = self.clock.monotonic_s()
        reader = answer.wire.reader(model, price, wants_usage=plan.request.wants_usage)
        await reply.begin_stream(plan.headers(trail), reader.error_event)
        sink = Sample(reply) if is_measured else reply
        stream = Stream(plan.request_id, reader, sink, resumption)
        await self.resumer.run(stream, answer, record, trail)
        await reply.end_stream()
        if isinstance(sink, Sample):
            readability.note(text_of_stream(bytes(sink.sent)))
