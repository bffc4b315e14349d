"""Any split of a stream parses to the same events as the whole (WHATWG HTML §9.2)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadUpstreamAnswer
from gateway.upstream.sse import MAX_EVENT_BYTES, SseParser

LINES = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data",
        b"data: ",
        b": c",
        b"id: 1",
        b"event: e",
        b"retry: 3",
        b"junk",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    end = draw(ENDS)
    blocks = draw(st.lists(st.lists(LINES, max_size=4), max_size=6))
    return b"".join(b"".join(line + end for line in block) + end for block in blocks)


def parse(pieces: list[bytes]) -> list[bytes]:
    parser = SseParser()
    return [data for piece in pieces for data in parser.feed(piece)]


def reference(stream: bytes) -> list[bytes]:
    """The specification's line-by-line algorithm, data alone."""
    events, data = [], []
    for line in stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line == b"":
            events.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    return [event for event in events if event]


@given(streams(), st.data())
def test_splits_do_not_matter(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    # A last CR may be half of a CR LF: a byte more settles it.
    assert parse([*pieces, b"\n"]) == reference(stream + b"\n")


def test_an_event_may_not_grow_without_end() -> None:
    parser = SseParser()
    for _ in range(MAX_EVENT_BYTES // 65536):
        parser.feed(b"x" * 65536)
    with pytest.raises(BadUpstreamAnswer):
        parser.feed(b"x")


def test_an_unfinished_event_is_known() -> None:
    parser = SseParser()
    assert parser.feed(b"data: whole\n\n") == [b"whole"]
    assert not parser.has_rest
    parser.feed(b"data: ha")
    assert parser.has_rest


def test_an_event_that_ends_in_a_bare_cr_waits_for_nothing() -> None:
    parser = SseParser()
    assert parser.feed(b"data: [DONE]\r\r") == [b"[DONE]"]
    assert parser.feed(b"\ndata: x\r\n\r") == [b"x"]
    assert parser.feed(b"\n") == []
    assert not parser.has_rest
