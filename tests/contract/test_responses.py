"""The Responses API: its own stream grammar, over backends that speak it and that only chat."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.contract.conftest import (
    RICH,
    RICH_STREAM,
    chat_answer,
    delta,
    named_events,
    native_stage,
    openai_client,
)
from tests.fakes.backend import (
    STREAM_HEAD,
    WHOLE,
    chunked,
    completion,
    json_answer,
    says,
    streams,
    then_closes,
    then_resets,
)
from tests.faults.conftest import Stage

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


async def post(stage: Stage, **fields: Any) -> Any:
    body = {"model": "first", "input": "Hi", **fields}
    return await stage.client.post("/v1/responses", json=body)


async def test_the_sdk_gets_text_usage_and_the_model_served(stage: Stage) -> None:
    stage.first.will(chat_answer(content="Hello"))
    async with openai_client(stage) as client:
        answer = await client.responses.create(
            model="auto", input="Hi", instructions="Be brief.", max_output_tokens=9, temperature=0.5
        )
    assert answer.output_text == "Hello"
    assert answer.model == "first"
    assert answer.status == "completed"
    assert (answer.instructions, answer.temperature) == ("Be brief.", 0.5)
    assert answer.usage is not None
    assert answer.usage.input_tokens == 10
    assert answer.usage.input_tokens_details.cached_tokens == 4
    assert answer.usage.output_tokens == 2
    assert answer.usage.output_tokens_details.reasoning_tokens == 1
    (asked,) = stage.first.requests
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "served-name",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
    }
    (row,) = stage.parts.ledger.recent
    assert (row.usage.prompt_tokens, row.usage.cached_tokens) == (10, 4)
    assert answer.usage.model_extra == {"cost": pytest.approx(14e-6)}


async def test_the_sdks_own_accumulator_follows_a_stream_with_thoughts_and_calls(
    stage: Stage,
) -> None:
    stage.first.will(RICH_STREAM)
    async with (
        openai_client(stage) as client,
        client.responses.stream(model="first", input="Hi", tools=[TOOL]) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert final.output_text == "Let me look."
    assert [item.type for item in final.output] == [
        *("reasoning", "message", "function_call", "function_call")
    ]
    calls = [item for item in final.output if item.type == "function_call"]
    assert [(c.call_id, c.name, json.loads(c.arguments)["city"]) for c in calls] == [
        ("call_a", "weather", "Bern"),
        ("call_b", "weather", "Rome"),
    ]
    assert final.usage is not None
    assert final.usage.total_tokens == 12
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"


async def test_a_stream_is_numbered_named_and_ends_once(stage: Stage) -> None:
    stage.first.will(RICH_STREAM)
    answer = await post(stage, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = named_events(answer.text)
    assert [e["sequence_number"] for _, e in events] == list(range(len(events)))
    terminal = {"response.completed", "response.incomplete", "response.failed", "error"}
    assert [name for name, _ in events if name in terminal] == ["response.completed"]
    assert "[DONE]" not in answer.text
    opened = [e["item"]["id"] for name, e in events if name == "response.output_item.added"]
    closed = [e["item"]["id"] for name, e in events if name == "response.output_item.done"]
    assert opened == closed
    assert events[-1][1]["response"]["output"] == [
        e["item"] for name, e in events if name == "response.output_item.done"
    ]
    assert stage.first.requests[0].body["stream_options"] == {"include_usage": True}


async def test_every_split_of_the_backends_bytes_gives_the_same_stream(stage: Stage) -> None:
    raw = b"".join(RICH)
    stage.first.will(streams(raw), streams(*(raw[i : i + 7] for i in range(0, len(raw), 7))))
    whole, pieces = [named_events((await post(stage, stream=True)).text) for _ in range(2)]
    assert [name for name, _ in whole] == [name for name, _ in pieces]
    assert whole[-1][1]["response"]["usage"] == pieces[-1][1]["response"]["usage"]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_that_was_cut_says_so(
    stage: Stage, finish: str, reason: str, *, is_stream: bool
) -> None:
    if is_stream:
        stage.first.will(streams(delta(content="Hel"), delta(finish), b"data: [DONE]\n\n"))
        response = named_events((await post(stage, stream=True)).text)[-1][1]["response"]
    else:
        stage.first.will(chat_answer(finish, content="Hel"))
        response = (await post(stage)).json()
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert response["output"][0]["content"][0]["text"] == "Hel"


async def test_a_broken_stream_ends_with_one_error_event_that_the_sdk_raises(stage: Stage) -> None:
    stage.first.will(then_resets(STREAM_HEAD, chunked(delta(content="a"))))
    events = named_events((await post(stage, stream=True)).text)
    assert [name for name, _ in events if name == "error"] == ["error"]
    last = events[-1][1]
    assert last["sequence_number"] == len(events) - 1
    assert last["code"] == last["error"]["code"] == "backend_protocol_error"
    assert "response.completed" not in [name for name, _ in events]
    async with openai_client(stage) as client:
        stream = await client.responses.create(model="first", input="Hi", stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass
    assert stage.second.requests == []
    assert [row.outcome for row in stage.parts.ledger.recent] == ["error", "error"]


async def test_failover_before_the_first_event(stage: Stage) -> None:
    stage.first.will(then_closes())
    stage.second.will(streams(*WHOLE))
    answer = await post(stage, model="auto", stream=True)
    assert answer.headers["x-routing-fallback-from"] == "first"
    assert named_events(answer.text)[-1][1]["response"]["model"] == "second"


async def test_an_error_is_openais_object(stage: Stage) -> None:
    stage.first.will(says(completion()))
    refused = await post(stage, previous_response_id="resp_1")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "previous_response_id"
    assert refused.json()["error"]["code"] == "unsupported_value"
    assert stage.first.requests == []


NATIVE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "served-name",
    "output": [],
    "odd": {"kept": 1},
    "usage": {"input_tokens": 10, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}},
}


def native_event(kind: str, **fields: Any) -> bytes:
    document = {"type": kind, **fields}
    return f"event: {kind}\ndata: {json.dumps(document)}\n\n".encode()


async def test_a_backend_that_speaks_responses_is_asked_in_them() -> None:
    async with native_stage("chat", "responses") as stage:
        stage.first.will(says(json_answer(NATIVE)))
        answer = await post(stage, previous_response_id="resp_0", tools=[{"type": "web_search"}])
        assert answer.json() == {
            **NATIVE,
            "model": "first",
            "usage": {**NATIVE["usage"], "cost": pytest.approx(14e-6)},
        }
        (asked,) = stage.first.requests
        assert asked.path == "/v1/responses"
        assert asked.body["previous_response_id"] == "resp_0"
        assert stage.parts.ledger.recent[0].usage.cached_tokens == 4


async def test_native_events_pass_and_the_terminal_one_has_model_and_cost() -> None:
    begun = {**NATIVE, "status": "in_progress", "usage": None}
    async with native_stage("responses") as stage:
        stage.first.will(
            streams(
                native_event("response.created", response=begun, sequence_number=0),
                native_event("response.output_text.delta", delta="Hi", sequence_number=1),
                native_event("response.completed", response=NATIVE, sequence_number=2),
            )
        )
        events = named_events((await post(stage, stream=True)).text)
        assert [name for name, _ in events] == [
            *("response.created", "response.output_text.delta", "response.completed")
        ]
        assert events[0][1]["response"]["model"] == "first"
        assert events[1][1]["delta"] == "Hi"
        assert events[2][1]["response"]["usage"]["cost"] == pytest.approx(14e-6)
        assert "stream_options" not in stage.first.requests[0].body
        (row,) = stage.parts.ledger.recent
        assert (row.outcome, row.usage.completion_tokens) == ("ok", 2)


async def test_a_native_stream_that_fails_is_passed_on_and_accounted_as_failed() -> None:
    failed = {**NATIVE, "status": "failed", "error": {"code": "server_error", "message": "no"}}
    async with native_stage("responses") as stage:
        stage.first.will(
            streams(
                native_event("response.created", response=NATIVE, sequence_number=0),
                native_event("response.failed", response=failed, sequence_number=1),
            )
        )
        events = named_events((await post(stage, stream=True)).text)
        assert [name for name, _ in events] == ["response.created", "response.failed"]
        assert stage.parts.ledger.recent[0].outcome == "error"


@pytest.mark.parametrize(
    "first",
    [
        native_event("error", code="server_error", message="no", param=None),
        native_event("response.failed", response={"error": {"message": "no"}}),
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
    ],
    ids=["error", "failed", "nothing", "done"],
)
async def test_a_native_stream_that_begins_badly_is_tried_elsewhere(first: bytes) -> None:
    async with native_stage("responses") as stage:
        stage.first.will(streams(first))
        stage.second.will(streams(native_event("response.completed", response=NATIVE)))
        answer = await post(stage, model="auto", stream=True)
        assert answer.headers["x-routing-model"] == "second"
        assert [name for name, _ in named_events(answer.text)] == ["response.completed"]


async def test_a_native_stream_without_its_end_is_interrupted() -> None:
    async with native_stage("responses") as stage:
        created = native_event("response.created", response=NATIVE, sequence_number=4)
        stage.first.will(streams(created))
        events = named_events((await post(stage, stream=True)).text)
        assert [name for name, _ in events] == ["response.created", "error"]
        assert events[1][1]["sequence_number"] == 5
