"""Answers on their way to the client: what is written in, what is read, what is left alone."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendRefused, BadUpstreamAnswer
from gateway.upstream.answers import (
    Chunk,
    check_answer,
    check_first_event,
    read_refusal,
    restamp_answer,
    restamp_chunk,
)
from gateway.upstream.sse import DONE, encode_event
from gateway.upstream.usage import TokenUsage, read_usage

USAGE = b'{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}'
CHOICE = b'[{"index":0,"delta":{"content":"a"},"finish_reason":null}]'


def price(usage: TokenUsage) -> float:
    return usage.completion_tokens * 0.5


def restamp(data: bytes, *, wants_usage: bool = False) -> Chunk:
    return restamp_chunk(data, "m", wants_usage=wants_usage, price=price)


def unframed(event: bytes | None) -> bytes:
    assert event is not None
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    return event[6:-2]


@given(st.text(max_size=30), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_all_but_the_model_passes_byte_for_byte(text: str, number: float, is_ascii: bool) -> None:
    raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
    choices = json.dumps([{"delta": {"content": text, "n": number}}], ensure_ascii=is_ascii)
    sent = b'{"id":"c","model":"x","choices": %b}' % choices.encode()
    received = unframed(restamp(sent).data)
    assert bytes(raw.decode(received)["choices"]) == choices.encode()
    assert json.loads(received)["model"] == "m"


def test_a_chunk_that_names_the_right_model_is_not_touched() -> None:
    sent = b'{ "model" :"m", "choices":%b}' % CHOICE
    assert restamp(sent) == Chunk(encode_event(sent), None, has_content=True, is_finish=False)


def test_a_line_break_inside_a_chunk_cannot_break_its_frame() -> None:
    data = unframed(restamp(b'{"model":"m",\n\n"choices":%b}' % CHOICE).data)
    assert b"\n" not in data
    assert json.loads(data)["choices"] == json.loads(CHOICE)


def test_a_finish_reason_in_the_text_finishes_nothing() -> None:
    said = json.dumps([{"delta": {"content": '"finish_reason":"stop"'}, "finish_reason": None}])
    assert not restamp(b'{"model":"m","choices":%b}' % said.encode()).is_finish
    assert restamp(b'{"model":"m","choices":[{"finish_reason" : "stop"}]}').is_finish


@pytest.mark.parametrize("usage", [USAGE, b"null"], ids=["counts", "null"])
def test_usage_beside_content_is_stripped_for_who_did_not_ask(usage: bytes) -> None:
    chunk = restamp(b'{"model":"m","choices":%b,"usage":%b}' % (CHOICE, usage))
    assert "usage" not in json.loads(unframed(chunk.data))
    assert (chunk.usage is None) == (usage == b"null")


def test_the_usage_event_goes_only_to_who_asked_and_has_its_cost() -> None:
    sent = b'{"model":"m","choices":[],"usage":%b}' % USAGE
    assert restamp(sent).data is None
    assert restamp(sent).usage == TokenUsage(10, 4, 2)
    asked = unframed(restamp(sent, wants_usage=True).data)
    assert json.loads(asked)["usage"] == {**json.loads(USAGE), "cost": 1.0}


def test_an_unreadable_usage_event_is_kept_from_who_did_not_ask() -> None:
    chunk = restamp(b'{"model":"m","choices":[],"usage":{"prompt_tokens":-1}}')
    assert (chunk.data, chunk.usage) == (None, None)


@pytest.mark.parametrize("data", [b"", b"7", b"[]", b"{", b"<p>", b'{"model":7}', b"[" * 100_000])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    for check in (check_first_event, check_answer, restamp):
        with pytest.raises(BadUpstreamAnswer):
            check(data)


def test_done_may_be_the_first_event() -> None:
    check_first_event(DONE)


def test_an_error_under_a_200_is_an_error_with_the_status_that_its_code_tells() -> None:
    for code, status in ((429, 429), (400, 400), ("full", 502), (7, 502), (True, 502)):
        body = json.dumps({"error": {"message": "boom", "code": code}}).encode()
        with pytest.raises(BackendRefused, match="boom") as raised:
            check_answer(body)
        assert raised.value.backend_status == status


def test_a_complete_answer_names_the_model_and_its_cost() -> None:
    body, usage = restamp_answer(b'{"model":"x","choices":[ 1 ],"usage":%b}' % USAGE, "m", price)
    assert json.loads(body)["model"] == "m"
    assert json.loads(body)["usage"]["cost"] == 1.0
    assert b"[ 1 ]" in body
    assert usage == TokenUsage(10, 4, 2)


@pytest.mark.parametrize("usage", [b"null", b"[]", b"7", b'{"prompt_tokens":"x"}'])
def test_a_usage_that_is_none_passes_as_it_came(usage: bytes) -> None:
    body, read = restamp_answer(b'{"usage":%b}' % usage, "m", price)
    assert read is None
    assert json.loads(body)["usage"] == json.loads(usage)


@pytest.mark.parametrize("count", [b"-1", b"1" + b"0" * 400, b"1e300", b"0.5"])
@pytest.mark.parametrize("field", [b"prompt_tokens", b"completion_tokens"])
def test_counts_that_no_ledger_can_book_are_no_usage(field: bytes, count: bytes) -> None:
    assert read_usage(b'{"%b":%b}' % (field, count)) is None


def test_no_more_can_be_cached_than_was_sent() -> None:
    read = read_usage(b'{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":9}}')
    assert read == TokenUsage(3, 3, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"m"}}', "m"),
        (b'{"error":"m"}', "m"),
        (b'{"message":"m","object":"error"}', "m"),
        (b'{"detail":"m"}', "m"),
        (b'{"detail":[{"msg":"m"}]}', "the backend answered 400"),
        (b"<h1>m</h1>", "the backend answered 400"),
        (b"\xff", "the backend answered 400"),
        (b"[" * 100_000, "the backend answered 400"),
        (b"", "the backend answered 400"),
        (b'{"error":{"message":"%b"}}' % (b"m" * 10_000), "m" * 500),
    ],
)
def test_a_refusal_is_worded_whatever_its_shape(body: bytes, message: str) -> None:
    refusal = read_refusal(400, body)
    assert (refusal.message, refusal.status, refusal.tries_elsewhere) == (message, 400, False)


def test_a_code_in_the_body_does_not_overrule_the_status() -> None:
    body = b'{"error":{"message":"bad key","code":400}}'
    assert read_refusal(401, body).status == 502
    assert read_refusal(503, body).tries_elsewhere
