"""Anthropic's Messages API: its own shapes, over backends that speak it and that only chat."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from tests.contract.conftest import (
    RICH_STREAM,
    anthropic_client,
    call_piece,
    chat_answer,
    delta,
    named_events,
    native_stage,
)
from tests.fakes.backend import (
    DONE,
    STREAM_HEAD,
    WHOLE,
    chunked,
    json_answer,
    says,
    streams,
    then_closes,
    then_resets,
)
from tests.faults.conftest import Stage

ASK: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {
    "name": "weather",
    "description": "the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def post(stage: Stage, **fields: Any) -> Any:
    body = {"model": "first", "max_tokens": 9, "messages": ASK, **fields}
    return await stage.client.post("/v1/messages", json=body)


async def test_the_sdk_gets_text_usage_and_the_model_served(stage: Stage) -> None:
    stage.first.will(chat_answer(content="Hello"))
    async with anthropic_client(stage) as client:
        answer = await client.messages.create(
            model="auto",
            max_tokens=9,
            system="Be brief.",
            messages=ASK,
            stop_sequences=["\n"],
            extra_body={"top_k": 5},
        )
    assert [block.to_dict() for block in answer.content] == [{"type": "text", "text": "Hello"}]
    assert (answer.model, answer.stop_reason, answer.role) == ("first", "end_turn", "assistant")
    # Cached tokens stand beside the input, not in it.
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (6, 4)
    assert answer.usage.output_tokens == 2
    (asked,) = stage.first.requests
    assert asked.path == "/v1/chat/completions"
    assert "x-api-key" not in asked.headers
    assert asked.body == {
        "model": "served-name",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "max_tokens": 9,
        "stop": ["\n"],
        "top_k": 5,
    }
    (row,) = stage.parts.ledger.recent
    assert (row.usage.prompt_tokens, row.usage.cached_tokens) == (10, 4)


async def test_the_sdks_own_accumulator_follows_a_stream_with_thoughts_and_calls(
    stage: Stage,
) -> None:
    stage.first.will(RICH_STREAM)
    async with (
        anthropic_client(stage) as client,
        client.messages.stream(model="first", max_tokens=9, messages=ASK, tools=[TOOL]) as stream,
    ):
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert final.content[0].type == "thinking"
    assert final.content[0].thinking == "Hmm."
    assert final.content[1].type == "text"
    assert final.content[1].text == "Let me look."
    calls = [block for block in final.content if block.type == "tool_use"]
    assert [(c.id, c.name, c.input) for c in calls] == [
        ("call_a", "weather", {"city": "Bern"}),
        ("call_b", "weather", {"city": "Rome"}),
    ]
    assert final.stop_reason == "tool_use"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 2)


async def test_blocks_begin_and_end_in_turn_and_the_stream_ends_once(stage: Stage) -> None:
    stage.first.will(RICH_STREAM)
    answer = await post(stage, stream=True)
    events = named_events(answer.text)
    names = [name for name, _ in events]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert names.count("message_stop") == 1
    open_block = None
    for name, event in events:
        if name == "content_block_start":
            assert open_block is None
            open_block = event["index"]
        elif name.startswith("content_block"):
            assert event["index"] == open_block
            if name == "content_block_stop":
                open_block = None
    assert open_block is None
    assert events[-2][1]["usage"]["cost"] == pytest.approx(14e-6)
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "max_tokens"), ("content_filter", "refusal"), ("stop", "end_turn")],
)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_why_it_stopped(stage: Stage, finish: str, reason: str, *, is_stream: bool) -> None:
    if is_stream:
        stage.first.will(streams(delta(content="Hel"), delta(finish), DONE))
        events = named_events((await post(stage, stream=True)).text)
        assert events[-2][1]["delta"]["stop_reason"] == reason
    else:
        stage.first.will(chat_answer(finish, content="Hel"))
        assert (await post(stage)).json()["stop_reason"] == reason


async def test_a_stop_sequence_that_the_backend_names_is_named(stage: Stage) -> None:
    message = {"index": 0, "finish_reason": "stop", "stop_reason": "END"}
    answer = {"choices": [{**message, "message": {"content": "a"}}]}
    stage.first.will(says(json_answer(answer)))
    document = (await post(stage, stop_sequences=["END"])).json()
    assert (document["stop_reason"], document["stop_sequence"]) == ("stop_sequence", "END")


async def test_errors_are_anthropics_object(stage: Stage) -> None:
    async with anthropic_client(stage) as client:
        with pytest.raises(anthropic.NotFoundError) as raised:
            await client.messages.create(model="gpt-17", max_tokens=9, messages=ASK)
        body: Any = raised.value.body
        assert body["type"] == "error"
        assert body["error"]["type"] == "not_found_error"
        assert body["error"]["param"] == "model"
        image: Any = [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]
        with pytest.raises(anthropic.BadRequestError, match="needs a backend that speaks this"):
            await client.messages.create(model="first", max_tokens=9, messages=image)
    refused = await stage.client.get("/v1/messages")
    assert refused.status_code == 405
    assert refused.json()["error"]["type"] == "invalid_request_error"
    missing = await stage.client.post("/v1/messages", json={"model": "first", "messages": ASK})
    assert missing.json()["error"]["param"] == "max_tokens"
    assert stage.first.requests == []


async def test_a_broken_stream_ends_with_one_error_event_that_the_sdk_raises(stage: Stage) -> None:
    stage.first.will(then_resets(STREAM_HEAD, chunked(delta(content="a"))))
    names = [name for name, _ in named_events((await post(stage, stream=True)).text)]
    assert names == ["message_start", "content_block_start", "content_block_delta", "error"]
    async with anthropic_client(stage) as client:
        with pytest.raises(anthropic.APIStatusError, match="broke off"):
            async with client.messages.stream(model="first", max_tokens=9, messages=ASK) as stream:
                await stream.until_done()
    assert stage.second.requests == []


async def test_failover_before_the_first_event(stage: Stage) -> None:
    stage.first.will(then_closes())
    stage.second.will(streams(*WHOLE))
    answer = await post(stage, model="auto", stream=True)
    assert answer.headers["x-routing-fallback-from"] == "first"
    assert named_events(answer.text)[0][1]["message"]["model"] == "second"


async def test_arguments_that_are_no_json_are_tried_elsewhere(stage: Stage) -> None:
    stage.first.will(chat_answer("tool_calls", tool_calls=[call_piece(0, "{", name="weather")]))
    good = [call_piece(0, '{"a":1}', id="c", name="weather")]
    stage.second.will(chat_answer("tool_calls", tool_calls=good))
    document = (await post(stage, model="auto")).json()
    assert document["content"] == [
        {"type": "tool_use", "id": "c", "name": "weather", "input": {"a": 1}}
    ]


NATIVE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "served-name",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 2},
}


def native_event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


NATIVE_STREAM = (
    native_event("message_start", message={**NATIVE, "usage": {"input_tokens": 10}}),
    native_event("ping"),
    native_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    native_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"}),
    native_event("content_block_stop", index=0),
    native_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
    native_event("message_stop"),
)


async def test_a_backend_that_speaks_messages_is_asked_in_them() -> None:
    async with native_stage("chat", "messages") as stage:
        stage.first.will(says(json_answer(NATIVE)))
        async with anthropic_client(stage) as client:
            await client.messages.create(
                model="first",
                max_tokens=9,
                messages=ASK,
                thinking={"type": "disabled"},
                extra_headers={"anthropic-version": "2024-01-02"},
            )
        answer = await post(stage)
        assert answer.json() == {
            **NATIVE,
            "model": "first",
            "usage": {**NATIVE["usage"], "cost": pytest.approx(14e-6)},
        }
        asked, asked_plainly = stage.first.requests
        assert asked.path == "/v1/messages"
        assert asked.headers["anthropic-version"] == "2024-01-02"
        assert asked_plainly.headers["anthropic-version"] == "2023-06-01"
        assert asked.body["thinking"] == {"type": "disabled"}
        assert stage.parts.ledger.recent[0].usage.cached_tokens == 4


async def test_native_usage_is_merged_from_the_first_and_the_last_event() -> None:
    async with native_stage("messages") as stage:
        stage.first.will(streams(*NATIVE_STREAM), streams(*NATIVE_STREAM[:-1]))
        whole = named_events((await post(stage, stream=True)).text)
        assert [name for name, _ in whole] == [
            *("message_start", "ping", "content_block_start", "content_block_delta"),
            *("content_block_stop", "message_delta", "message_stop"),
        ]
        assert whole[0][1]["message"]["model"] == "first"
        assert whole[5][1]["usage"] == {"output_tokens": 2, "cost": pytest.approx(14e-6)}
        # A backend that stops after the reason for stopping has said all there was to say.
        assert named_events((await post(stage, stream=True)).text) == whole
        usages = [row.usage for row in stage.parts.ledger.recent]
        assert [(u.prompt_tokens, u.completion_tokens) for u in usages] == [(10, 2), (10, 2)]


@pytest.mark.parametrize("count", [1, 4, 5])
async def test_a_native_stream_that_is_cut_ends_with_an_error(count: int) -> None:
    async with native_stage("messages") as stage:
        stage.first.will(streams(*NATIVE_STREAM[:count]))
        names = [name for name, _ in named_events((await post(stage, stream=True)).text)]
        assert names[-1] == "error"
        assert len(names) == count + 1


async def test_a_native_error_first_is_tried_elsewhere() -> None:
    overloaded = {"type": "overloaded_error", "message": "busy"}
    async with native_stage("messages") as stage:
        stage.first.will(streams(native_event("error", error=overloaded)))
        stage.second.will(streams(*NATIVE_STREAM))
        answer = await post(stage, model="auto", stream=True)
        assert named_events(answer.text)[0][1]["message"]["model"] == "second"


async def test_tokens_are_counted_by_who_would_answer_and_cost_nothing() -> None:
    async with native_stage("messages") as stage:
        stage.first.will(says(json_answer({"input_tokens": 42})))
        async with anthropic_client(stage) as client:
            count = await client.messages.count_tokens(model="first", system="Brief.", messages=ASK)
        assert count.input_tokens == 42
        (asked,) = stage.first.requests
        assert asked.path == "/v1/messages/count_tokens"
        assert "anthropic-version" in asked.headers
        assert asked.body == {"model": "served-name", "system": "Brief.", "messages": ASK}
        (row,) = stage.parts.ledger.recent
        assert (row.model, row.outcome, row.usage.total_tokens, row.cost_nanos) == (
            *("first", "ok"),
            *(0, 0),
        )


async def test_another_model_counts_no_tokens_for_one_that_fails() -> None:
    async with native_stage("messages") as stage:
        stage.first.will(says(json_answer({"tokens": 42})))
        stage.second.will(says(json_answer({"input_tokens": 42})))
        async with anthropic_client(stage) as client:
            with pytest.raises(anthropic.APIStatusError) as failed:
                await client.messages.count_tokens(model="auto", messages=ASK)
        assert failed.value.status_code == 502
        assert (len(stage.first.requests), len(stage.second.requests)) == (1, 0)


async def test_who_only_chats_counts_no_tokens(stage: Stage) -> None:
    body = {"model": "first", "messages": ASK}
    answer = await stage.client.post("/v1/messages/count_tokens", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_endpoint"
    assert answer.json()["type"] == "error"
