"""The ledger: one row a request, settled once, exact to the nano-dollar, estimates marked."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import parse_config
from gateway.decision.endpoints import CHAT
from gateway.ledger.accounting import NANOS_PER_USD, RECENT_ROWS, Reservation
from gateway.parts import Parts, build_parts
from gateway.pipeline import Incoming
from gateway.tenancy.principals import ANONYMOUS
from gateway.upstream.usage import TokenUsage

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}


class StoppedClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 1e9 + self.now_s


def parts_with(price: dict[str, float] | None) -> Parts:
    backend = {"url": "http://127.0.0.1:1/v1"}
    model = {"backends": [backend], **({"price_usd_per_mtok": price} if price else {})}
    document = {"router": {"artifact": "none"}, "models": {"m": model}}
    return build_parts(parse_config(document, "the test"), StoppedClock())


def reserve(parts: Parts) -> Reservation:
    body = json.dumps(BODY).encode()
    plan = parts.pipeline.plan(Incoming(CHAT, "r", {}, body, 100.0), ANONYMOUS)
    return parts.ledger.reserve("r", plan.decision, plan.features.prompt_tokens, 100.0, "anonymous")


def test_a_reservation_settles_once() -> None:
    parts = parts_with({"input": 1, "output": 2})
    record = reserve(parts)
    assert parts.ledger.open_reservations == 1
    row = parts.ledger.settle(record)
    record.outcome = "ok"
    assert parts.ledger.settle(record) is None
    assert list(parts.ledger.recent) == [row]
    assert parts.ledger.open_reservations == 0


def test_the_worst_case_is_held() -> None:
    record = reserve(parts_with({"input": 1, "output": 2}))
    assert record.held_nanos == record.prompt_tokens * 1_000 + 100 * 2_000


def test_without_a_price_nothing_is_held_or_booked() -> None:
    parts = parts_with(None)
    record = reserve(parts)
    record.progress.usage = TokenUsage(10, 0, 2)
    row = parts.ledger.settle(record)
    assert row is not None
    assert (record.held_nanos, row.cost_nanos) == (None, None)


@given(
    st.integers(0, 2**24),
    st.integers(0, 2**24),
    st.integers(0, 2**24),
    st.tuples(*[st.integers(0, 100_000)] * 3),
)
def test_the_cost_is_exact(fresh: int, cached: int, output: int, mills: tuple[int, ...]) -> None:
    """Prices in thousandths of a dollar per million tokens make whole nano-dollars a token."""
    price = {
        kind: mill / 1_000
        for kind, mill in zip(("input", "cached_input", "output"), mills, strict=True)
    }
    parts = parts_with(price)
    record = reserve(parts)
    record.progress.usage = TokenUsage(fresh + cached, cached, output)
    row = parts.ledger.settle(record)
    assert row is not None
    exact = sum(
        Fraction(count * mill, 1_000 * 1_000_000)
        for count, mill in zip((fresh, cached, output), mills, strict=True)
    )
    assert row.cost_nanos == exact * NANOS_PER_USD


def test_what_the_backend_did_not_count_is_estimated_and_says_so() -> None:
    parts = parts_with({"input": 1, "output": 2})
    record = reserve(parts)
    record.progress.events = 7
    row = parts.ledger.settle(record)
    assert row is not None
    assert row.usage == TokenUsage(record.prompt_tokens, 0, 7, is_estimated=True)


def test_a_zero_that_was_told_is_no_estimate() -> None:
    parts = parts_with({"input": 1, "output": 2})
    record = reserve(parts)
    record.progress.events = 7
    record.progress.usage = TokenUsage()
    row = parts.ledger.settle(record)
    assert row is not None
    assert (row.cost_nanos, row.usage.is_estimated) == (0, False)


def test_times_are_differences_of_the_monotonic_clock() -> None:
    parts = parts_with(None)
    record = reserve(parts)
    clock = parts.clock
    assert isinstance(clock, StoppedClock)
    record.first_token_s = 100.25
    clock.now_s = 101.0
    row = parts.ledger.settle(record)
    assert row is not None
    assert row.ttft_ms == pytest.approx(250)
    assert row.duration_ms == pytest.approx(1000)


def test_the_rows_in_memory_are_bounded() -> None:
    parts = parts_with(None)
    for _ in range(RECENT_ROWS + 1):
        parts.ledger.settle(reserve(parts))
    assert len(parts.ledger.recent) == RECENT_ROWS
