"""A chunk that passes unread is what reading it would have made of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.answers import restamp_chunk
from gateway.upstream.same_chunk import SameChunk, framed, remember_chunk
from gateway.upstream.sse import SseParser


def event_of(words: bytes, field: str = "content", model: str = "served", **more: object) -> bytes:
    """One event whose words are these bytes, as they stand between the quotes."""
    choice = {"index": 0, "delta": {field: "WORDS"}, "finish_reason": None, **more}
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": model, "choices": [choice]}
    told = json.dumps(chunk, separators=(",", ":")).encode()
    return b"data: " + told.replace(b"WORDS", words) + b"\n\n"


def read(event: bytes, model: str = "named") -> bytes | None:
    """What the client is sent for an event that is read."""
    (data,) = SseParser().feed(event)
    chunk = restamp_chunk(data, model, wants_usage=False, price=lambda _: None)
    return chunk.data


def same_as(event: bytes, model: str) -> SameChunk:
    sent = read(event, model)
    assert sent is not None
    found = remember_chunk(event, sent)
    assert found is not None
    return found


@pytest.mark.parametrize("model", ["served", "named"])
@pytest.mark.parametrize(
    "field", ["content", "text", "reasoning_content", "reasoning", "arguments"]
)
@given(words=st.text(max_size=60))
def test_any_words_are_sent_as_if_they_had_been_read(model: str, field: str, words: str) -> None:
    same = same_as(event_of(b"Hi", field), model)
    event = event_of(json.dumps(words, ensure_ascii=False).encode()[1:-1], field)
    told = same.sent_for(framed(event))
    sent = read(event, model)
    assert sent is not None
    assert told == framed(sent) or (told is None and "\\u" in json.dumps(words, ensure_ascii=False))


@given(words=st.binary(max_size=12))
def test_bytes_that_pass_unread_are_a_json_string(words: bytes) -> None:
    event = event_of(words)
    told = same_as(event_of(b"Hi"), "named").sent_for(framed(event))
    if told is not None:
        assert told == framed(read(event) or b"")


@given(
    at=st.integers(0, 400),
    put=st.sampled_from([b"", b"x", b'"', b"\\", b"\r\n", b"\n", b"0", b"\xff", b',"usage":{}']),
    cut=st.integers(0, 3),
)
def test_a_changed_chunk_passes_only_as_what_the_parsers_make_of_it(
    at: int, put: bytes, cut: int
) -> None:
    chunk = framed(event_of(b"Hello there"))
    at = min(at, len(chunk))
    changed = chunk[:at] + put + chunk[at + cut :]
    told = same_as(event_of(b"Hi"), "served").sent_for(changed)
    if told is not None:
        size, _, rest = changed.partition(b"\r\n")
        event = rest[: int(size, 16)]
        assert rest[len(event) :] == b"\r\n"
        assert told == framed(read(event, "served") or b"")


@pytest.mark.parametrize("length", [*range(40), *range(140, 180), 4_000, 65_300, 65_400, 2**20])
def test_chunks_of_every_length_are_known(length: int) -> None:
    same = same_as(event_of(b"Hi"), "served")
    chunk = framed(event_of(b"w" * length))
    assert same.sent_for(chunk) == chunk
    for spoiled in (
        chunk + b"x",
        chunk[1:],
        chunk[:-1],
        b"0" + chunk,
        chunk + chunk,
        b"\r\n" + chunk,
    ):
        assert same.sent_for(spoiled) is None


@pytest.mark.parametrize(
    "event",
    [
        event_of(b"Hi", finish_reason="stop"),
        event_of(b"Hi", logprobs=[1]),
        event_of(b"Hi", "refusal"),
        event_of(b"Hi", model="another"),
        event_of(b'Hi"},"index":"'),
        b": a comment\n\n",
        b"data: [DONE]\n\n",
        b"",
    ],
)
def test_another_kind_of_event_is_read(event: bytes) -> None:
    assert same_as(event_of(b"Hi"), "served").sent_for(framed(event)) is None


@pytest.mark.parametrize("event", [event_of(b""), event_of(b"Hi", "refusal"), b"data: [DONE]\n\n"])
def test_without_words_there_is_nothing_to_remember(event: bytes) -> None:
    assert remember_chunk(event, event) is None


@pytest.mark.parametrize("words", [b"\x00", b"\xc3", b"a\\", b"\\x", b"\\u12", b"\t"])
def test_what_is_no_string_is_left_to_the_parser(words: bytes) -> None:
    assert same_as(event_of(b"Hi"), "served").sent_for(framed(event_of(words))) is None
