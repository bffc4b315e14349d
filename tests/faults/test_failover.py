"""What fails before the client has a byte is tried elsewhere; what is the client's fault is not."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.upstream import throttle
from gateway.upstream.health import FAILURES_TO_OPEN
from tests.fakes.backend import (
    JSON_HEAD,
    STREAM_HEAD,
    WHOLE,
    Act,
    chunked,
    completion,
    event,
    json_answer,
    says,
    scripted_backend,
    streams,
    then_closes,
    then_hangs,
    then_resets,
)
from tests.faults.conftest import Stage, stage_with

HTML = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p>!"
CUT = b'HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"error"'
REDIRECT = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
HALF_HEAD = b"HTTP/1.1 200 OK\r\ncontent-ty"
BROKEN = [
    (then_resets(), "reset before the head"),
    (then_closes(HALF_HEAD), "half a head"),
    (then_hangs(), "silence"),
    (then_hangs(HALF_HEAD), "half a head, then silence"),
    (says(b"220 mail.example ESMTP\r\n"), "another protocol"),
    (says(HTML), "HTML"),
    (says(json_answer({"error": "busy"}, 429)), "429"),
    (says(json_answer({"error": {"message": "down"}}, 503)), "503"),
    (says(json_answer({"detail": "oops"}, 500)), "500"),
    (then_hangs(STREAM_HEAD), "a head without an event"),
]


@pytest.mark.parametrize(("act", "why"), BROKEN, ids=[why for _, why in BROKEN])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_another_model_answers(stage: Stage, act: Act, why: str, *, is_stream: bool) -> None:
    stage.first.will(act)
    stage.second.will(streams(*WHOLE) if is_stream else says(completion("from the second")))
    answer = await stage.ask(stream=is_stream)
    assert answer.status_code == 200, why
    assert answer.headers["x-routing-model"] == "second"
    assert answer.headers["x-routing-attempts"] == "2"
    assert answer.headers["x-routing-fallback-from"] == "first"
    # A reset on a connection that a probe had opened may be its age: the same backend is asked anew.
    assert len(stage.first.requests) in ({1, 2} if why == "reset before the head" else {1})
    assert len(stage.second.requests) == 1
    (row,) = stage.parts.ledger.recent
    assert (row.model, row.chosen_model, row.attempts, row.outcome) == ("second", "first", 2, "ok")


async def test_a_stream_that_ends_or_errs_before_its_first_event_is_tried_elsewhere(
    stage: Stage,
) -> None:
    stage.first.will(streams(), streams(b'data: {"error": {"message": "full", "code": 503}}\n\n'))
    stage.second.will(streams(*WHOLE))
    for _ in range(2):
        assert (await stage.stream())[-1] == "[DONE]"
    assert len(stage.second.requests) == 2


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_clients_mistake_is_passed_on_and_never_retried(stage: Stage, status: int) -> None:
    told = {"error": {"message": "no such tool", "param": "tools", "code": status}}
    stage.first.will(says(json_answer(told, status)))
    answer = await stage.ask()
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["message"], error["param"]) == ("no such tool", "tools")
    assert error["type"] == "invalid_request_error"
    assert isinstance(error["code"], str)
    assert answer.headers["x-routing-model"] == "first"
    assert stage.second.requests == []


@pytest.mark.parametrize(
    "act",
    [
        then_closes(CUT % 400),
        then_hangs(CUT % 400),
        says(json_answer({"error": {"message": "x" * 200_000}}, 400)),
    ],
    ids=["cut off", "unfinished", "long"],
)
async def test_a_clients_mistake_stays_one_however_badly_it_is_told(stage: Stage, act: Act) -> None:
    stage.first.will(act)
    assert (await stage.ask()).status_code == 400
    assert stage.second.requests == []


async def test_a_failure_whose_words_never_end_is_tried_elsewhere_in_time(stage: Stage) -> None:
    stage.first.will(then_hangs(CUT % 503))
    stage.second.will(says(completion()))
    async with asyncio.timeout(2):
        assert (await stage.ask()).headers["x-routing-model"] == "second"


@pytest.mark.parametrize(
    "body", [b"<p>", b"[]", b'{"error": {"message": "full", "code": 503}}'], ids=repr
)
async def test_a_whole_answer_that_is_none_is_tried_elsewhere(stage: Stage, body: bytes) -> None:
    stage.first.will(says(JSON_HEAD % (200, len(body)) + body))
    stage.second.will(says(completion()))
    answer = await stage.ask()
    assert (answer.status_code, answer.headers["x-routing-model"]) == (200, "second")


async def test_nobody_listening_costs_one_attempt_and_no_request(stage: Stage) -> None:
    handle = stage.parts.catalog.models["first"].backends[0]
    await stage.first.stop()
    handle.health.succeed(0.0)  # whatever a probe has seen meanwhile
    stage.second.will(says(completion()))
    answer = await stage.ask()
    assert answer.headers["x-routing-model"] == "second"
    assert answer.headers["x-routing-attempts"] == "2"


async def test_another_backend_of_the_same_model_comes_first() -> None:
    async with scripted_backend() as twin, stage_with(twin=twin.url) as stage:
        stage.first.will(says(json_answer({"error": "busy"}, 503)))
        twin.will(says(completion()))
        answer = await stage.ask()
        assert answer.headers["x-routing-model"] == "first"
        assert answer.headers["x-routing-attempts"] == "2"
        assert "x-routing-fallback-from" not in answer.headers
        assert stage.second.requests == []
        await stage.census()


@pytest.mark.parametrize("usage", [{"prompt_tokens": -5}, {"completion_tokens": 10**400}])
async def test_a_count_that_cannot_be_booked_spoils_no_answer(
    stage: Stage, usage: dict[str, int]
) -> None:
    stage.first.will(says(json_answer({"model": "x", "choices": [], "usage": usage})))
    assert (await stage.ask()).status_code == 200
    (row,) = stage.parts.ledger.recent
    assert (row.outcome, row.usage.is_estimated) == ("ok", True)


@pytest.mark.parametrize("status", [401, 403])
async def test_our_own_credentials_are_not_the_clients_fault(stage: Stage, status: int) -> None:
    stage.first.will(says(json_answer({"error": {"message": "bad key"}}, status)))
    answer = await stage.ask()
    assert answer.status_code == 502


async def test_a_redirect_is_not_followed(stage: Stage) -> None:
    stage.first.will(says(REDIRECT))
    answer = await stage.ask()
    assert answer.status_code == 502


async def test_a_connection_that_the_backend_closed_meanwhile_costs_no_request(
    stage: Stage,
) -> None:
    stage.first.will(says(completion()), then_resets(), says(completion()))
    for _ in range(2):
        answer = await stage.ask()
        assert answer.headers["x-routing-model"] == "first"
        assert answer.headers["x-routing-attempts"] == "1"


async def test_when_nobody_is_left_the_last_failure_is_told_and_not_retried_by_the_client() -> None:
    async with stage_with(connect_s=0.5, first_token_s=0.5) as stage:
        stage.first.will(then_resets())
        stage.second.will(says(json_answer({"error": "busy"}, 503)))
        answer = await stage.ask()
        assert answer.status_code == 503
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-routing-attempts"] == "2"
        await stage.census()


async def test_a_backend_that_keeps_failing_is_left_alone(stage: Stage) -> None:
    stage.first.will(says(json_answer({"error": "busy"}, 503)))
    stage.second.will(says(completion()))
    for _ in range(7):
        assert (await stage.ask()).status_code == 200
    assert len(stage.first.requests) == 5
    assert len(stage.second.requests) == 7
    pinned = await stage.ask(model="first")
    assert pinned.status_code == 503
    assert pinned.json()["error"]["code"] == "no_usable_backend"
    assert int(pinned.headers["retry-after"]) > 0


async def test_headers_cross_in_neither_direction(stage: Stage) -> None:
    secret = b"x-internal: secret\r\nset-cookie: a=b\r\nserver: vendor\r\n"
    stage.first.will(says(completion().replace(b"\r\n\r\n", b"\r\n" + secret + b"\r\n", 1)))
    answer = await stage.client.post(
        "/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": "Hi"}]},
        headers={"authorization": "Bearer mine", "cookie": "c=d", "x-custom": "e"},
    )
    assert not {"x-internal", "set-cookie", "server"} & set(answer.headers)
    assert not {"authorization", "cookie", "x-custom"} & set(stage.first.requests[0].headers)
    assert stage.first.requests[0].headers["x-request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"retry-after: 7", "7"),
        (b"retry-after-ms: 1500", "2"),
        (b"retry-after: 86400", "60"),
        (b"retry-after: -1", None),
        (b"retry-after: Wed, 21 Oct 2026 07:28:00 GMT", None),
        (b"x: y", None),
    ],
)
async def test_how_long_a_busy_backend_asks_to_wait_is_passed_on(
    stage: Stage, header: bytes, told: str | None
) -> None:
    busy = json_answer({"error": {"message": "slow down"}}, 429)
    busy = busy.replace(b"content-type", header + b"\r\ncontent-type", 1)
    stage.first.will(says(busy))
    stage.second.will(says(busy))
    answer = await stage.ask()
    assert answer.status_code == 429
    assert answer.headers.get("retry-after") == told
    assert answer.headers["x-should-retry"] == "false"


async def test_an_encoded_answer_is_no_answer(stage: Stage) -> None:
    encoded = completion().replace(b"content-type", b"content-encoding: gzip\r\ncontent-type", 1)
    stage.first.will(says(encoded))
    stage.second.will(says(completion()))
    assert (await stage.ask()).headers["x-routing-model"] == "second"


async def test_streams_that_keep_breaking_off_pause_their_backend(stage: Stage) -> None:
    stage.first.will(then_resets(STREAM_HEAD, chunked(event("a"))))
    stage.second.will(says(completion()))
    for _ in range(FAILURES_TO_OPEN):
        assert "error" in (await stage.stream())[-1]
    assert (await stage.ask()).headers["x-routing-model"] == "second"


async def test_retries_are_a_share_of_the_traffic(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When every request fails first, the second tries end long before the requests do."""
    monkeypatch.setattr(throttle, "REQUESTS_TO_JUDGE", 10**6)
    stage.first.will(says(json_answer({"error": {"message": "no"}}, 429)))
    stage.second.will(says(completion()))
    count = 200
    statuses = [(await stage.ask()).status_code for _ in range(count)]
    assert statuses[0] == 200
    assert 429 in statuses
    assert len(stage.second.requests) < count / 2


async def test_a_backend_that_turns_requests_away_is_spared_and_found_out_when_it_is_well(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "random", random.Random(7))
    stage.first.will(says(json_answer({"error": {"message": "slow down"}}, 429)))
    stage.second.will(says(completion()))
    answers = [await stage.ask() for _ in range(100)]
    assert {a.status_code for a in answers} == {200}, "no retry was left to make"
    assert len(stage.first.requests) < 60
    assert answers[-1].headers["x-routing-fallback-from"] == "first"
    assert answers[-1].headers["x-routing-attempts"] == "1"
    asked = len(stage.first.requests)
    stage.first.scripts.clear()
    stage.first.will(says(completion()))
    for _ in range(400):
        await stage.ask()
    assert len(stage.first.requests) - asked > 200
    text = (await stage.client.get("/metrics")).text
    assert 'outcome="spared"' in text


async def test_where_everybody_turns_requests_away_the_client_is_told_to_wait(stage: Stage) -> None:
    stage.first.will(says(json_answer({"error": {"message": "slow down"}}, 429)))
    for _ in range(60):
        answer = await stage.ask(model="first")
        if answer.status_code == 503:
            break
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "no_usable_backend")
    assert "turn requests away" in error["message"]
    assert answer.headers["retry-after"] == "1"
