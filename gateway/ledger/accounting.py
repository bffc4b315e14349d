"""Reserve before a backend is asked, settle once however the request ends.

It must never lose a row or write one twice: a reservation settles exactly once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from gateway.clock import Clock
from gateway.decision.catalog import Catalog
from gateway.decision.decide import RoutedDecision
from gateway.decision.prices import Price
from gateway.ledger.savings import Comparison, Difference, compare
from gateway.telemetry.logs import RequestLog
from gateway.telemetry.metrics import Metrics
from gateway.upstream.answers import Pricer
from gateway.upstream.attempts import Attempt, Trail
from gateway.upstream.health import BackendHealth
from gateway.upstream.stream import Progress
from gateway.upstream.usage import NOTHING_TOLD, TokenUsage
from policies.types import RoutingFlags

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Trace

Outcome = Literal["ok", "cancelled", "error"]
#: Money is counted in integer nano-dollars: a token may cost a fraction of a micro-dollar.
NANOS_PER_USD = 1_000_000_000
#: Rows kept in memory for the console.
RECENT_ROWS = 500


class Spent(msgspec.Struct, frozen=True):
    """An answer that was paid for and not passed on: a first try, or a verifier's verdict on it."""

    model: str
    usage: TokenUsage
    cost_nanos: int | None = None


class Reservation(msgspec.Struct):
    """The open record of one request; filled in as it goes, closed by ``Ledger.settle``."""

    request_id: str
    decision: RoutedDecision
    prompt_tokens: int
    started_s: float
    #: Whose request it is: the id of a key, or ``anonymous``.
    principal: str
    #: What the worst case would cost; None when no price is known.
    held_nanos: int | None
    model: str
    backend: str = ""
    attempts: int = 0
    outcome: Outcome = "error"
    error_code: str | None = None
    first_token_s: float | None = None
    progress: Progress = msgspec.field(default_factory=Progress)
    spent: list[Spent] = msgspec.field(default_factory=list)
    #: The model of a first try that was kept, and what is said of that.
    kept: tuple[str, str] | None = None
    #: Of the backend that answered.
    health: BackendHealth | None = None
    trace: Trace | None = None
    is_settled: bool = False
    #: How often another backend went on with an answer that had broken off.
    resumes: int = 0

    def note_attempts(self, trail: Trail) -> None:
        """Take over who was asked: the last attempt is the one that answered or failed."""
        self.attempts = trail.count
        if trail.attempts:
            self.model = trail.attempts[-1].model
            self.backend = trail.attempts[-1].backend.name
            self.health = trail.attempts[-1].backend.health

    def note_outrun(self, trail: Trail) -> None:
        """Account for what backends had read when another one was faster to answer."""
        for attempt in trail.outrun:
            read = TokenUsage(prompt_tokens=self.prompt_tokens, is_estimated=True)
            self.spend(attempt, read)

    def keep_first_try(self, model: str, verdict: str) -> None:
        self.kept = (model, verdict)

    def discard(self, attempt: Attempt) -> None:
        """Account for what was answered so far as a first try that nobody sees."""
        self.spend(attempt, used_of(self.progress, self.prompt_tokens))
        self.progress = Progress()

    def spend(self, attempt: Attempt, usage: TokenUsage | None) -> None:
        """Account for an answer beside the one that is passed on."""
        if usage is not None and usage.total_tokens:
            attempt.backend.health.tokens_booked += usage.total_tokens
            self.spent.append(Spent(attempt.model, usage))


class LedgerRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finished request. ``usage`` is the answer's; the cost is of all that was ``spent``, too."""

    request_id: str
    decision_id: str
    principal: str
    at_s: float
    profile: str
    chosen_model: str
    model: str
    backend: str
    reason: str
    outcome: Outcome
    error_code: str | None
    attempts: int
    usage: TokenUsage
    cost_nanos: int | None
    predicted_quality: float
    ttft_ms: float | None
    duration_ms: float
    spent: tuple[Spent, ...] = ()
    #: Of the trace that the request belongs to, where requests are traced.
    trace_id: str | None = None
    #: What ``telemetry.metrics.BASELINES`` would have cost more and been better by; see savings.
    differences: tuple[Difference, ...] | None = None
    #: How often another backend went on where the answer had broken off.
    resumes: int = 0

    @property
    def total_tokens(self) -> int:
        beside = sum(other.usage.total_tokens for other in self.spent) if self.spent else 0
        return self.usage.total_tokens + beside


class Book(Protocol):
    """Where rows are written down."""

    def note(self, row: LedgerRow) -> None: ...


class Ledger:
    def __init__(
        self,
        catalog: Catalog,
        clock: Clock,
        metrics: Metrics,
        request_log: RequestLog,
        recent: deque[LedgerRow],
        book: Book | None = None,
    ) -> None:
        """``recent`` takes the latest rows, for the console; ``book`` all of them, for good."""
        self._book = book
        self._catalog = catalog
        self._clock = clock
        self._metrics = metrics
        self._request_log = request_log
        self._open: dict[str, Reservation] = {}
        #: Requests under way that enter their own row; see express.py.
        self.open_errands = 0
        self._waiting: list[tuple[LedgerRow, Comparison | None]] = []
        self.recent = recent

    @property
    def open_reservations(self) -> int:
        return len(self._open) + self.open_errands

    def reserve(
        self,
        request_id: str,
        decision: RoutedDecision,
        prompt_tokens: int,
        started_s: float,
        principal: str,
    ) -> Reservation:
        """Open the record of a request, holding what the plan's dearest model could cost."""
        plan = decision.plan
        prices = [
            e.candidate.cost_usd
            for e in plan.evaluated
            if e.candidate.model in plan.order and e.candidate.cost_usd is not None
        ]
        held = round(max(prices) * NANOS_PER_USD) if prices else None
        if held is not None and plan.first_try is not None:
            held *= 2  # no model of the plan is dearer, and two of them may answer
        reservation = Reservation(
            request_id,
            decision,
            prompt_tokens,
            started_s,
            principal,
            held,
            model=decision.plan.chosen,
        )
        self._open[decision.decision_id] = reservation
        return reservation

    def settle(self, reservation: Reservation) -> LedgerRow | None:
        """Close a record; a second call changes nothing and returns None."""
        if reservation.is_settled:
            return None
        reservation.is_settled = True
        del self._open[reservation.decision.decision_id]
        usage = used_of(reservation.progress, reservation.prompt_tokens)
        if reservation.health is not None:
            reservation.health.tokens_booked += usage.total_tokens
        price_usd = partial(self.price_usd, reservation.decision)
        spent = tuple(
            Spent(s.model, s.usage, nanos_of(price_usd(s.model, s.usage)))
            for s in reservation.spent
        )
        nanos = [nanos_of(price_usd(reservation.model, usage)), *(s.cost_nanos for s in spent)]
        known = [n for n in nanos if n is not None]
        plan = reservation.decision.plan
        chosen, reason = reservation.kept or (plan.chosen, reservation.decision.reason)
        compared = compare(plan.evaluated, reservation.model)
        row = LedgerRow(
            request_id=reservation.request_id,
            decision_id=reservation.decision.decision_id,
            principal=reservation.principal,
            at_s=self._clock.wall_s(),
            profile=reservation.decision.profile,
            chosen_model=chosen,
            model=reservation.model,
            backend=reservation.backend,
            reason=reason,
            outcome=reservation.outcome,
            error_code=reservation.error_code,
            attempts=reservation.attempts,
            usage=usage,
            cost_nanos=sum(known) if known else None,
            predicted_quality=reservation.decision.chosen.quality,
            ttft_ms=_ms(reservation.first_token_s, reservation.started_s),
            duration_ms=(self._clock.monotonic_s() - reservation.started_s) * 1e3,
            spent=spent,
            trace_id=None if reservation.trace is None else reservation.trace.trace_id,
            differences=None if compared is None else compared.differences,
            resumes=reservation.resumes,
        )
        if reservation.trace is not None:
            reservation.trace.note_row(row)
        self.enter(row, compared)
        self._judge(row, reservation.decision)
        return row

    def enter_soon(self, row: LedgerRow, compared: Comparison | None) -> None:
        """``enter`` when the event loop turns: those of one turn cost less together."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._enter_waiting)
        self._waiting.append((row, compared))

    def _enter_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for row, compared in waiting:
            self.enter(row, compared)

    def enter(self, row: LedgerRow, compared: Comparison | None) -> None:
        """Write a finished request down, in everything that keeps or counts them."""
        self.recent.append(row)
        if self._book is not None:
            self._book.note(row)
        self._metrics.request_finished(row)
        self._request_log.note(row)
        if compared is not None:
            self._metrics.comparisons.note(*compared)

    def price_usd(self, decision: RoutedDecision, model: str, usage: TokenUsage) -> float | None:
        """Price of what was used, by the list or else as it stood when the request was decided."""
        price = self._catalog.models[model].list_price or _price_then(decision, model)
        if price is None:
            return None
        return price.cost_usd(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)

    def pricer(self, record: Reservation, model: str) -> Pricer:
        """What the client is told that its answer cost, with all that was spent on the way."""
        if not record.spent:
            return partial(self.price_usd, record.decision, model)
        prices = [self.price_usd(record.decision, s.model, s.usage) for s in record.spent]
        before_usd = sum(usd for usd in prices if usd is not None)

        def price(usage: TokenUsage) -> float | None:
            usd = self.price_usd(record.decision, model, usage)
            return None if usd is None else before_usd + usd

        return price

    def _judge(self, row: LedgerRow, decision: RoutedDecision) -> None:
        """Count what the shadow would have chosen, and limits that the answer broke."""
        shadow = decision.selected.shadow
        if shadow is not None:
            self._metrics.judgements.note_shadow(shadow.chosen, row.chosen_model)
        if row.outcome == "ok":
            for constraint in _broken_limits(row, decision.selected.flags):
                self._metrics.constraint_violations.labels(constraint).inc()


def _price_then(decision: RoutedDecision, model: str) -> Price | None:
    for evaluated in decision.plan.evaluated:
        candidate = evaluated.candidate
        if candidate.model == model:
            paid = (candidate.input_usd_per_mtok, candidate.output_usd_per_mtok)
            return None if paid[0] is None or paid[1] is None else Price(paid[0], paid[1])
    return None


def _broken_limits(row: LedgerRow, flags: RoutingFlags) -> Iterator[str]:
    """The limits on predicted numbers that the real ones did not keep."""
    usd = None if row.cost_nanos is None else row.cost_nanos / NANOS_PER_USD
    for constraint, limit, actual in (
        ("max_cost_usd", flags.max_cost_usd, usd),
        ("max_ttft_ms", flags.max_ttft_ms, row.ttft_ms),
        ("max_latency_ms", flags.max_latency_ms, row.duration_ms),
    ):
        if limit is not None and actual is not None and actual > limit:
            yield constraint


def used_of(progress: Progress, prompt_tokens: int) -> TokenUsage:
    """What a backend told, or what was seen where it never did: an event carries about one token."""
    if progress.usage is not None:
        return progress.usage
    if progress.events == 0:
        return NOTHING_TOLD
    return TokenUsage(
        prompt_tokens=prompt_tokens, completion_tokens=progress.events, is_estimated=True
    )


def nanos_of(usd: float | None) -> int | None:
    """Money as it is counted; None where no price is known."""
    return None if usd is None else round(usd * NANOS_PER_USD)


def _ms(later_s: float | None, earlier_s: float) -> float | None:
    return None if later_s is None else (later_s - earlier_s) * 1e3
