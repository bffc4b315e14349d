"""Requests of other APIs in chat's words, and an error that names what chat cannot say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.errors import InvalidRequest
from gateway.upstream.wires import messages_request, responses_request


def raw(fields: dict[str, Any]) -> dict[str, msgspec.Raw]:
    return {k: msgspec.Raw(json.dumps(v).encode()) for k, v in fields.items()}


def from_responses(**fields: Any) -> dict[str, Any]:
    chat = responses_request.chat_fields(raw({"input": "Hi", **fields}))
    return {name: json.loads(bytes(value)) for name, value in chat.items()}


def from_messages(*messages: Any, **fields: Any) -> dict[str, Any]:
    chat = messages_request.chat_fields(raw({"messages": list(messages), **fields}))
    return {name: json.loads(bytes(value)) for name, value in chat.items()}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def call(identity: str, name: str, arguments: str) -> dict[str, Any]:
    return {
        "id": identity,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def test_a_dialogue_with_tools_in_responses_words() -> None:
    items = [
        {"role": "developer", "content": "Short."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "b",
            "output": [{"type": "input_text", "text": "2"}],
        },
    ]
    chat = from_responses(input=items, instructions="Be kind.")
    assert chat["messages"] == [
        {"role": "system", "content": "Be kind.\n\nShort."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("a", "f", "{}"), call("b", "f", "{}")],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]


def test_images_and_files_in_responses_words() -> None:
    parts = [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": "http://x/a.png", "detail": "low"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
    ]
    (message,) = from_responses(input=[{"role": "user", "content": parts}])["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "http://x/a.png", "detail": "low"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
        },
    ]


def test_the_rest_of_a_responses_request() -> None:
    chat = from_responses(
        tools=[{"type": "function", "name": "f", "parameters": {}, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        reasoning={"effort": "low"},
        max_output_tokens=7,
        top_logprobs=2,
        store=True,
        seed=3,
    )
    del chat["messages"]
    assert chat == {
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
        "reasoning_effort": "low",
        "max_tokens": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "seed": 3,
    }


def test_a_choice_among_no_tools_is_not_sent() -> None:
    assert "tool_choice" not in from_responses(tool_choice="auto", tools=[])
    assert "tool_choice" not in from_messages(user(), tool_choice={"type": "auto"})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"input": None}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": "f"}, "tools"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].type",
        ),
    ],
)
def test_what_responses_say_that_chat_cannot_is_named(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        from_responses(**fields)
    assert raised.value.param == param


def test_a_dialogue_with_tools_in_anthropics_words() -> None:
    chat = from_messages(
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": ""},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            ],
        },
        user(
            {"type": "text", "text": "And?"},
            {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True},
            {
                "type": "tool_result",
                "tool_use_id": "b",
                "content": [
                    {"type": "text", "text": "2"},
                    {"type": "image", "source": {"type": "url", "url": "http://x/a.png"}},
                ],
            },
        ),
        system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
    )
    assert chat["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call("a", "f", '{"x":1}')]},
        {"role": "tool", "tool_call_id": "a", "content": "Error: 1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And?"},
                {"type": "image_url", "image_url": {"url": "http://x/a.png"}},
            ],
        },
    ]


def test_images_and_documents_in_anthropics_words() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "AA"}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "BB"}
    (message,) = from_messages(
        user(
            {"type": "image", "source": source},
            {"type": "document", "source": {"type": "text", "data": "words"}},
            {"type": "document", "source": pdf, "title": "t"},
        )
    )["messages"]
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "text", "text": "words"},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,BB", "filename": "t"},
        },
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
            {
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "parallel_tool_calls": False,
            },
        ),
    ],
)
def test_anthropics_choice_of_tools(choice: Any, expected: dict[str, Any]) -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}}
    chat = from_messages(user(), tools=[tool], tool_choice=choice)
    del chat["messages"]
    function = {"name": "f", "parameters": {"type": "object"}}
    assert chat == {"tools": [{"type": "function", "function": function}], **expected}


def test_the_rest_of_an_anthropic_request() -> None:
    chat = from_messages(
        {"role": "user", "content": "Hi"},
        stop_sequences=["a"],
        metadata={"user_id": "u"},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        thinking={"type": "enabled", "budget_tokens": 1024},
        top_k=3,
        max_tokens=5,
    )
    del chat["messages"]
    assert chat == {
        "stop": ["a"],
        "user": "u",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}},
        },
        "top_k": 3,
        "max_tokens": 5,
    }


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        ([7], {}, "messages[0]"),
        ([{"role": "robot", "content": ""}], {}, "messages[0].role"),
        ([{"role": "user"}], {}, "messages[0].content"),
        ([user({"type": "search_result"})], {}, "messages[0].content[0].type"),
        ([user({"type": "image"})], {}, "messages[0].content[0].source"),
        (
            [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f"}]}],
            {},
            "messages[0].content[0].input",
        ),
        ([], {"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ([], {"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ([], {"tool_choice": {"type": ["x"]}}, "tool_choice.type"),
        ([], {"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ([], {"system": [{"type": "image"}]}, "system[0].type"),
        ([], {"metadata": "x"}, "metadata"),
    ],
)
def test_what_anthropic_says_that_chat_cannot_is_named(
    messages: list[Any], fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        from_messages(*messages, **fields)
    assert raised.value.param == param
