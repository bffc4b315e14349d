"""Requests whose end can be read in two ways: refused, and what hides behind one is never asked."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.fakes.backend import completion, says
from tests.faults.conftest import stage_with

BODY = json.dumps({"model": "first", "messages": [{"role": "user", "content": "open"}]}).encode()
HIDDEN_BODY = BODY.replace(b"open", b"hidden")
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HEAD = LINE + b"host: gateway\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKED_BODY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HIDDEN = HEAD + b"content-length: %d\r\n\r\n" % len(HIDDEN_BODY) + HIDDEN_BODY

#: RFC 9112 §6.3 and §11.2: framings that two parsers read differently.
AMBIGUOUS = {
    "length_and_chunked": HEAD + LENGTH + CHUNKED + b"\r\n" + CHUNKED_BODY,
    "chunked_and_length": HEAD + CHUNKED + LENGTH + b"\r\n" + CHUNKED_BODY,
    "two_lengths_that_differ": HEAD + LENGTH + b"content-length: 0\r\n\r\n" + BODY,
    "two_equal_lengths": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "a_list_of_lengths": HEAD + b"content-length: 5, 5\r\n\r\n" + BODY,
    "a_negative_length": HEAD + b"content-length: -1\r\n\r\n" + BODY,
    "a_signed_length": HEAD + b"content-length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a_hexadecimal_length": HEAD + b"content-length: 0x10\r\n\r\n" + BODY,
    "a_length_beyond_64_bits": HEAD + b"content-length: 18446744073709551617\r\n\r\n" + BODY,
    "a_space_before_the_colon": HEAD + b"transfer-encoding : chunked\r\n\r\n" + CHUNKED_BODY,
    "an_unknown_coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n" + CHUNKED_BODY,
    "chunked_not_last": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n" + CHUNKED_BODY,
    "bare_line_feeds": HEAD.replace(b"\r\n", b"\n") + LENGTH + b"\r\n" + BODY,
    "a_folded_header": HEAD + b"x-one: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "a_nul_in_a_header": HEAD + b"x-one: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
    "two_hosts": HEAD + b"host: other\r\n" + LENGTH + b"\r\n" + BODY,
    "no_host": HEAD.replace(b"host: gateway\r\n", b"") + LENGTH + b"\r\n" + BODY,
    "a_chunk_size_that_is_none": HEAD + CHUNKED + b"\r\nzz\r\n" + BODY,
    "a_chunk_longer_than_told": HEAD + CHUNKED + b"\r\n1\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a_chunk_size_beyond_64_bits": HEAD + CHUNKED + b"\r\nfffffffffffffffff\r\n" + BODY,
}


async def exchange(port: int, data: bytes) -> bytes:
    """Everything the gateway answers until it closes the connection, which it has to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_can_be_read_in_two_ways_is_refused(name: str) -> None:
    async with stage_with() as stage:
        stage.first.will(says(completion()))
        answer = await exchange(stage.port, AMBIGUOUS[name] + HIDDEN)
        assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
        assert answer.count(b"HTTP/1.1 ") <= 1
        assert not stage.first.requests
        await stage.census()


async def test_two_plain_requests_on_one_connection_are_both_answered() -> None:
    """The table means something only if the hidden request is served where it is not hidden."""
    async with stage_with() as stage:
        stage.first.will(says(completion()))
        last = HIDDEN.replace(b"host: gateway\r\n", b"host: gateway\r\nconnection: close\r\n")
        answer = await exchange(stage.port, HEAD + LENGTH + b"\r\n" + BODY + last)
        assert answer.count(b"HTTP/1.1 200") == 2
        assert len(stage.first.requests) == 2
