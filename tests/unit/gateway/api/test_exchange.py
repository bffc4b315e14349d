"""What a client may send before a model is asked, over a real socket: bounds, media, ids."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from tests.fakes.backend import completion, says
from tests.faults.conftest import ASK, Stage, stage_with

PATH = "/v1/chat/completions"
BODY = json.dumps(ASK).encode()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with stage_with() as made:
        made.first.will(says(completion()))
        yield made
        await made.census()


async def raw(stage: Stage, head: bytes, body: bytes = b"") -> bytes:
    """Send bytes as they are; return the first line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n%b" % (PATH.encode(), head, body))
    try:
        async with asyncio.timeout(2):
            return await reader.readline()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content-type": "multipart/form-data; boundary=json"}, 415, "unsupported_media_type"),
        ({"content-encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"content-encoding": "identity"}, 200, None),
        ({"content-type": "application/json; charset=utf-8"}, 200, None),
        ({"content-type": "Application/JSON"}, 200, None),
    ],
)
async def test_only_plain_json_is_taken(
    stage: Stage, headers: dict[str, str], status: int, code: str | None
) -> None:
    sent = {"content-type": "application/json", **headers}
    answer = await stage.client.post(PATH, content=BODY, headers=sent)
    assert answer.status_code == status
    if code is not None:
        assert answer.json()["error"]["code"] == code
        assert stage.first.requests == []


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(stage: Stage) -> None:
    assert b" 413 " in await raw(stage, b"content-length: 99999999\r\n")


async def test_a_body_that_does_not_say_its_size_is_refused_once_it_is_too_large(
    stage: Stage,
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(5 * 16):
            yield b" " * 65536

    headers = {"content-type": "application/json"}
    answer = await stage.client.post(PATH, content=endless(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: x\r\n",
        b"content-length: -1\r\n",
        b"content-length: 1\r\ncontent-length: 2\r\n",
        b"content-length: 1\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 1%b\r\n" % (b"0" * 5000),
    ],
)
async def test_a_length_that_is_none_is_a_bad_request(stage: Stage, head: bytes) -> None:
    assert b" 400 " in await raw(stage, head, b"{}")
    assert stage.first.requests == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_told_so_in_the_same_envelope(stage: Stage, method: str) -> None:
    answer = await stage.client.request(method, PATH)
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_a_good_request_id_is_kept_everywhere(stage: Stage) -> None:
    answer = await stage.client.post(PATH, json=ASK, headers={"x-request-id": "my.id_1-2"})
    assert answer.headers["x-request-id"] == "my.id_1-2"
    assert stage.first.requests[0].headers["x-request-id"] == "my.id_1-2"
    assert stage.parts.ledger.recent[0].request_id == "my.id_1-2"


@pytest.mark.parametrize("told", ["", "a b", "x" * 65, "a/../b", "é".encode()])
async def test_a_bad_request_id_is_replaced(stage: Stage, told: str | bytes) -> None:
    headers = {b"x-request-id": told if isinstance(told, bytes) else told.encode()}
    answer = await stage.client.post(PATH, json=ASK, headers=headers)
    assert re.fullmatch("req_[0-9a-f]{24}", answer.headers["x-request-id"])


async def test_an_error_carries_the_id_too(stage: Stage) -> None:
    answer = await stage.client.post(PATH, content=b"{", headers={"x-request-id": "mine"})
    assert answer.status_code == 400
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-should-retry"] == "false"
