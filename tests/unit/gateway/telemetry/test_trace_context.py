from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.trace_context import (
    context_headers,
    is_drawn,
    new_context,
    new_span_id,
    passed_on,
    read_context,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_what_the_recommendation_shows_is_read() -> None:
    context = read_context({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "congo=t61,r=1"})
    assert context is not None
    assert (context.trace_id, context.parent_id) == (TRACE, SPAN)
    assert (context.is_sampled, context.is_random, context.state) == (True, False, "congo=t61,r=1")


@pytest.mark.parametrize(("flags", "is_sampled", "is_random"), [
    ("00", False, False), ("01", True, False), ("02", False, True), ("03", True, True),
    ("fe", False, True),
])  # fmt: skip
def test_flags_are_bits(flags: str, is_sampled: bool, is_random: bool) -> None:
    context = read_context({"traceparent": f"00-{TRACE}-{SPAN}-{flags}"})
    assert context is not None
    assert (context.is_sampled, context.is_random) == (is_sampled, is_random)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",  # version 00 has four fields
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_not_well_formed_counts_as_none(told: str) -> None:
    if told.endswith("\n"):
        assert (
            read_context({"traceparent": told}) is not None
        )  # white space around it is none of it
    else:
        assert read_context({"traceparent": told, "tracestate": "a=1"}) is None
        assert passed_on({"traceparent": told, "tracestate": "a=1"}) == {}


def test_a_later_version_may_say_more() -> None:
    context = read_context({"traceparent": f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"})
    assert context is not None
    assert context.is_sampled


@pytest.mark.parametrize("state", ["a" * 513, "sch\xf6n=1", "a=1\r\nx-evil: 1"])
def test_a_state_that_may_not_be_sent_is_left_out(state: str) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state}
    assert passed_on(headers) == {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@given(is_sampled=st.booleans(), is_random=st.booleans(), state=st.sampled_from(["", "a=1"]))
def test_what_is_sent_reads_back(is_sampled: bool, is_random: bool, state: str) -> None:
    span = new_span_id()
    sent = context_headers(TRACE, span, is_sampled=is_sampled, is_random=is_random, state=state)
    read = read_context(sent)
    assert read is not None
    assert (read.trace_id, read.parent_id, read.state) == (TRACE, span, state)
    assert (read.is_sampled, read.is_random) == (is_sampled, is_random)


def test_the_share_that_is_drawn_is_the_ratio() -> None:
    ids = [new_context().trace_id for _ in range(4_000)]
    assert len(set(ids)) == len(ids)
    assert not any(is_drawn(trace_id, 0) for trace_id in ids)
    assert all(is_drawn(trace_id, 1) for trace_id in ids)
    share = sum(is_drawn(trace_id, 0.2) for trace_id in ids) / len(ids)
    assert 0.16 < share < 0.24  # six standard deviations
    kept = {trace_id for trace_id in ids if is_drawn(trace_id, 0.2)}
    assert kept <= {trace_id for trace_id in ids if is_drawn(trace_id, 0.5)}
