"""One request on the short way: the question, the answer in a callback, the row in the ledger.

See express.py for who comes here. It ends in exactly one of three ways: answered, abandoned by its
client, or handed to the long way; only the first two are accounted here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import msgspec

from gateway.decision.readability import text_of_answer
from gateway.errors import (
    BadUpstreamAnswer,
    ClientGone,
    GatewayError,
    Overloaded,
    StaleConnection,
    UpstreamError,
)
from gateway.ids import new_id
from gateway.ledger.accounting import LedgerRow, Outcome, nanos_of
from gateway.pipeline import Pipeline
from gateway.short_way import GoOn, PlainQuestion, PlainReply, Way
from gateway.strands import Cancellable
from gateway.tenancy.caller import Caller
from gateway.upstream.answers import (
    PlainAnswer,
    check_kind,
    read_plain_answer,
    refusal_of,
    write_over,
)
from gateway.upstream.attempts import Attempt, Tried
from gateway.upstream.backend import BackendHandle
from gateway.upstream.connection import NO_BEGINNING, NO_END, LeanConnection
from gateway.upstream.dispatch import MAX_ANSWER_BYTES
from gateway.upstream.lean import LeanClient
from gateway.upstream.plain_answer import renamed
from gateway.upstream.usage import NOTHING_TOLD, TokenUsage

_log = logging.getLogger(__name__)
_PATH = "/chat/completions"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Errand:
    """See the module. A Waiter at its connection, and what a client that leaves cancels."""

    __slots__ = (
        "_backend",
        "_body",
        "_caller",
        "_client",
        "_connection",
        "_cost_usd",
        "_decision_id",
        "_go_on",
        "_is_asking",
        "_is_over",
        "_kept_in",
        "_overhead_s",
        "_pipeline",
        "_received_s",
        "_reply",
        "_sent_s",
        "_successor",
        "_way",
    )
    _connection: LeanConnection
    _received_s: float
    _overhead_s: float
    #: By the connection's own clock.
    _sent_s: float
    _decision_id: str
    _is_asking: bool
    _kept_in: set[Cancellable]

    def __init__(
        self,
        pipeline: Pipeline,
        reply: PlainReply,
        go_on: GoOn,
        way: Way,
        backend: BackendHandle,
        caller: Caller,
        cost_usd: float | None,
    ) -> None:
        """``cost_usd`` is what the answer is expected to cost."""
        self._pipeline = pipeline
        self._reply = reply
        self._go_on = go_on
        self._way = way
        self._backend = backend
        self._caller = caller
        self._cost_usd = cost_usd
        self._client = cast(LeanClient, backend.transport)
        self._body = b""
        self._is_over = False
        self._successor: Cancellable | None = None

    def begin(self, question: PlainQuestion, laps: list[float], kept_in: set[Cancellable]) -> bool:
        """Ask the backend; False when it takes more than an idle connection, and nothing was done.

        ``laps`` are the moments between the steps so far; ``kept_in`` holds it until it ends.
        """
        pipeline, way = self._pipeline, self._way
        policy = self._caller.principal.policy
        try:
            pipeline.admission.enter("normal" if policy is None else policy.priority)
        except Overloaded:
            return False
        lines = f"x-request-id: {self._reply.request_id}\r\n"
        connection = self._client.begin("POST", _PATH, lines, self._worded(question))
        if connection is None:
            pipeline.admission.leave()
            return False
        now_s = pipeline.clock.monotonic_s()
        self._backend.health.begin(now_s)
        pipeline.ledger.open_errands += 1
        pipeline.dispatcher.note_request()
        self._connection = connection
        self._is_asking = True
        self._received_s = laps[0]
        self._overhead_s = now_s - laps[0]
        self._decision_id = new_id("dec_")
        if way.output_tokens is None:
            pipeline.metrics.observe_decision(laps, self._overhead_s)
        else:
            pipeline.metrics.overhead_seconds.observe(self._overhead_s)
        self._sent_s = connection.now_s()
        self._wait()
        self._kept_in = kept_in
        kept_in.add(self)
        return True

    def _worded(self, question: PlainQuestion) -> bytes:
        """The client's own bytes, unless the backend knows the model by another name.

        A name given twice, or spelled with escapes, is read in more than one way; then it is
        written anew, as we read it.
        """
        body, served = question.body, self._backend.served_model
        if body.count(b'"model"') == 1 and b"\\u00" not in body:
            if served == question.model:
                return body
            if (again := renamed(body, question.model, served)) is not None:
                return again
        return msgspec.json.encode({**_fields.decode(body), "model": served})

    def advance(self, error: Exception | None = None) -> None:
        """The answer has begun, gone on or ended, or it failed."""
        try:
            if error is not None:
                raise self._meaning_of(error)
            self._take_news()
        except UpstreamError as failure:
            self._hand_over(failure)
        except Exception:
            # The error boundary of the data path: a client never waits for an answer in vain.
            error_code = self._fail_internally()
            if not self._is_over:
                self._account("error", None, error_code)

    def _fail_internally(self) -> str | None:
        """Tell the client of an error of our own, being handled; return its code."""
        _log.exception("request %s failed", self._reply.request_id)
        self._close(is_reusable=False)
        self._reply.fail_now(GatewayError("an internal error occurred"), self._identity())
        return GatewayError.code

    def _meaning_of(self, error: Exception) -> Exception:
        """What went wrong: an error whose words break off is still what its status says."""
        connection = self._connection
        if connection.has_head and connection.status != 200:
            return refusal_of(connection.status, connection.headers, self._body)
        return error

    def _take_news(self) -> None:
        connection = self._connection
        if not connection.is_complete:
            if connection.has_piece:  # taken, so that the socket is read on
                self._keep(connection.take())
            self._wait()
            return
        self._keep(connection.take())
        body = self._body
        if connection.status != 200:
            raise refusal_of(connection.status, connection.headers, body)
        check_kind(connection.headers, "application/json")
        answer = read_plain_answer(body)
        now_s = self._pipeline.clock.monotonic_s()
        self._close(is_reusable=connection.is_reusable)
        self._backend.health.succeed(now_s)
        self._pipeline.dispatcher.note_success(self._backend, now_s)
        self._answer(body, answer)

    def _wait(self) -> None:
        """Wait for more, as long as the dispatcher would: for a head, for an error, for the whole."""
        connection, timeouts = self._connection, self._pipeline.timeouts
        complaint = NO_END
        if not connection.has_head:
            allowed_s, complaint = timeouts.answer_s, NO_BEGINNING
        elif connection.status != 200:
            allowed_s = timeouts.first_token_s
        else:
            check_kind(connection.headers, "application/json")
            allowed_s = timeouts.total_s
        connection.news(self._sent_s + allowed_s, complaint).hold(self)

    def _keep(self, piece: bytes) -> None:
        self._body = self._body + piece if self._body else piece
        if len(self._body) > MAX_ANSWER_BYTES:
            raise BadUpstreamAnswer(f"the backend's answer exceeds {MAX_ANSWER_BYTES} bytes")

    def _answer(self, body: bytes, answer: PlainAnswer) -> None:
        model, usage = self._way.model, answer.usage
        usd = None if usage is None else self._price_usd(usage)
        told = write_over(body, answer, model.name, usd)
        if self._reply.answer_plainly(self._header_lines(), told):
            self._account("ok", usage, None, usd)
        else:
            self._reply.start(self._account_when_read(usage, usd))
        if model.readability.wants_answer():
            model.readability.note(text_of_answer(told))

    def _price_usd(self, usage: TokenUsage) -> float | None:
        price = self._way.model.list_price
        if price is None:
            return None
        return price.cost_usd(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)

    def _header_lines(self) -> str:
        """What the client is told of the decision, as header lines, each with its end."""
        cost = self._cost_usd
        shown = "" if cost is None else f"x-routing-predicted-cost-usd: {cost:.9f}\r\n"
        return (
            f"x-request-id: {self._reply.request_id}\r\n"
            f"x-routing-decision-id: {self._decision_id}\r\n"
            f"{self._way.lines}x-routing-backend: {self._backend.name}\r\n"
            f"x-routing-overhead-ms: {self._overhead_s * 1e3:.2f}\r\n{shown}"
            f"{self._caller.limit_lines()}"
        )

    async def _account_when_read(self, usage: TokenUsage | None, usd: float | None) -> None:
        outcome: Outcome = "ok"
        try:
            await self._reply.drain()
        except ClientGone:
            outcome = "cancelled"
        self._account(outcome, usage, None, usd)

    def cancel(self, msg: Any | None = None) -> bool:
        """End it as soon as the loop turns: the client left, or the time to drain is over."""
        if self._successor is not None:
            return self._successor.cancel(msg)
        asyncio.get_running_loop().call_soon(self._cancel_now)
        return not self._is_over

    def _cancel_now(self) -> None:
        if self._successor is not None:
            self._successor.cancel()
        elif not self._is_over:
            self._close(is_reusable=False)
            if not self._reply.has_left:
                shutdown = Overloaded("the gateway is shutting down")
                self._reply.fail_now(shutdown, self._identity())
            self._account("cancelled", None, None)

    def _hand_over(self, failure: UpstreamError) -> None:
        """Let the long way go on: it may ask another backend, or say what went wrong."""
        self._close(is_reusable=False)
        self._leave()
        self._caller.release()
        tried: Tried | None = None
        if not isinstance(failure, StaleConnection):
            self._pipeline.dispatcher.note_failure(self._backend, failure)
            tried = Tried(Attempt(self._way.model.name, self._backend), failure)
        self._successor = self._go_on(tried)

    def _close(self, *, is_reusable: bool) -> None:
        """Give the connection back; a second call changes nothing."""
        if not self._is_asking:
            return
        self._is_asking = False
        self._connection.wait.let_go()
        self._client.release(self._connection, reusable=is_reusable)
        self._backend.health.inflight -= 1

    def _leave(self) -> None:
        self._is_over = True
        self._kept_in.discard(self)
        self._pipeline.ledger.open_errands -= 1
        self._pipeline.admission.leave()

    def _account(
        self,
        outcome: Outcome,
        usage: TokenUsage | None,
        error_code: str | None,
        cost_usd: float | None = None,
        ttft_ms: float | None = None,
    ) -> None:
        pipeline, way = self._pipeline, self._way
        decision, name = way.decision, way.model.name
        used = usage or NOTHING_TOLD
        if usage is None and way.model.list_price is not None:
            cost_usd = 0.0
        self._backend.health.tokens_booked += used.total_tokens
        row = LedgerRow(
            request_id=self._reply.request_id,
            decision_id=self._decision_id,
            principal=self._caller.principal.name,
            at_s=pipeline.clock.wall_s(),
            profile=decision.profile,
            chosen_model=name,
            model=name,
            backend=self._backend.name,
            reason=decision.reason,
            outcome=outcome,
            error_code=error_code,
            attempts=1,
            usage=used,
            cost_nanos=nanos_of(cost_usd),
            predicted_quality=decision.chosen.quality,
            ttft_ms=ttft_ms,
            differences=None if way.compared is None else way.compared.differences,
            duration_ms=(pipeline.clock.monotonic_s() - self._received_s) * 1e3,
        )
        self._leave()
        if self._caller.hold is not None:
            self._caller.settle(row.total_tokens, row.cost_nanos or 0)
        pipeline.ledger.enter_soon(row, way.compared)

    def _identity(self) -> dict[str, str]:
        return {"x-request-id": self._reply.request_id}
