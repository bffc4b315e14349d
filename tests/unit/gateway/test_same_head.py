"""A head that is known is known by its bytes, and by nothing less."""

from __future__ import annotations

import pytest

from gateway.same_head import remember

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nContent-Length: %d\r\nuser-agent: u\r\n\r\n"
)
FIELDS = {"host": "x", "content-length": "3", "user-agent": "u"}
PATH = b"/v1/chat/completions"


def said(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


def test_another_body_of_any_length_is_found() -> None:
    same = remember(said(b"{a}"), FIELDS, PATH)
    assert same is not None
    assert (same.fields, same.path) == ({"host": "x", "user-agent": "u"}, PATH)
    for body in (b"{a}", b"", b"\r\n\r\n", b"x" * 12_345):
        assert same.body_of(said(body)) == body


@pytest.mark.parametrize(
    "data",
    [
        said(b"{a}")[:-1],
        said(b"{a}") + b"G",
        said(b"{a}") + said(b"{a}"),
        said(b"{a}", HEAD.replace(b"user-agent: u", b"user-agent: v")),
        said(b"{a}", HEAD.replace(b"/v1/chat", b"/v1/xhat")),
        said(
            b"{a}", HEAD.replace(b"user-agent: u", b"user-agent: u\r\ntransfer-encoding: chunked")
        ),
        HEAD.replace(b"%d", b"+3") + b"{a}",
        HEAD.replace(b"%d", b"3 ") + b"{a}",
        HEAD.replace(b"%d", "³".encode()) + b"{a}",
        HEAD.replace(b"%d", b"") + b"",
        HEAD.replace(b"%d", b"3\r\ncontent-length: 3") + b"{a}",
        HEAD.replace(b"%d", b"9" * 12) + b"{a}",
        b"",
        b"POST",
    ],
)
def test_anything_else_is_for_the_parser(data: bytes) -> None:
    same = remember(said(b"{a}"), FIELDS, PATH)
    assert same is not None
    assert same.body_of(data) is None


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (said(b"{a}") + b"more", FIELDS),
        (said(b"{a}", HEAD.replace(b"host: x", b"host: x\r\ncontent-length: 3")), FIELDS),
        (said(b"{a}", HEAD.replace(b"Content-Length: %d", b"x: %d")), FIELDS),
        (said(b"{a}"), {**FIELDS, "transfer-encoding": "chunked"}),
        (said(b"{a}", HEAD.replace(b"user-agent: u", b"user-agent: " + b"u" * 5_000)), FIELDS),
        (b"POST / HTTP/1.1\nhost: x\ncontent-length: 0\n\n", FIELDS),
    ],
    ids=["more", "two lengths", "no length", "chunked", "long", "bare line feeds"],
)
def test_what_could_be_read_in_two_ways_is_not_remembered(
    data: bytes, fields: dict[str, str]
) -> None:
    assert remember(data, fields, PATH) is None
