"""A model that does as it is told: it calls the tool it is given and fills in the schema it is shown.

What it says is drawn from the request alone, so that two runs of a suite get the same answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.backend import (
    DONE,
    END_OF_STREAM,
    STREAM_HEAD,
    Connection,
    chunked,
    json_answer,
)
from tests.fakes.oracle import answers_well

_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 2,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0},
}
_QUOTED = re.compile(r"'([^']+)'")
_NUMBER = re.compile(r"-?\d+")


async def obliges(connection: Connection) -> None:
    """Answer a chat as it asks; every other API as ``answers_well`` does."""
    body = connection.request.body
    if not connection.request.path.endswith("/chat/completions"):
        await answers_well(connection)
    elif body.get("stream") is True:
        await connection.write(STREAM_HEAD + chunked(*_events(body)) + END_OF_STREAM)
    else:
        await connection.write(json_answer(_answer(body)))


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "refusal": None, **_message(body)}
    finish = "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "finish_reason": finish, "message": message, "logprobs": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
    return {**head, "choices": [choice], "usage": _USAGE}


def _events(body: dict[str, Any]) -> Iterator[bytes]:
    message = _message(body)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    if "tool_calls" in message:
        for index, call in enumerate(message["tool_calls"]):
            function = call["function"]
            begun = {**call, "index": index, "function": {**function, "arguments": ""}}
            deltas.append({"tool_calls": [begun]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
                for piece in _pieces(function["arguments"])
            ]
    else:
        deltas += [{"content": piece} for piece in _pieces(message["content"])]
    finish = "tool_calls" if "tool_calls" in message else "stop"
    for delta in deltas:
        yield _chunk(body, [{"index": 0, "delta": delta, "finish_reason": None}])
    yield _chunk(body, [{"index": 0, "delta": {}, "finish_reason": finish}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _chunk(body, [], usage=_USAGE)
    yield DONE


def _chunk(body: dict[str, Any], choices: list[dict[str, Any]], **fields: Any) -> bytes:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    return b"data: " + json.dumps({**head, "choices": choices, **fields}).encode() + b"\n\n"


def _pieces(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def _message(body: dict[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]
    said = _text(last.get("content"))
    tool = _wanted_tool(body) if last["role"] == "user" else None
    if tool is not None:
        arguments = json.dumps(_filled(tool.get("parameters", {}), said), ensure_ascii=False)
        function = {"name": tool["name"], "arguments": arguments}
        return {
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return {"content": json.dumps(_filled(wanted["json_schema"]["schema"], said))}
    if wanted.get("type") == "json_object":
        return {"content": json.dumps({key: "words" for key in _QUOTED.findall(said)})}
    return {"content": "Hello to you, world"}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content or ""


def _wanted_tool(body: dict[str, Any]) -> dict[str, Any] | None:
    tools = [tool["function"] for tool in body.get("tools") or []]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        return next(tool for tool in tools if tool["name"] == choice["function"]["name"])
    return tools[0] if tools and choice != "none" else None


def _filled(schema: dict[str, Any], said: str) -> Any:
    """A value of the JSON schema, made of what was said."""
    if "anyOf" in schema:
        return _filled(schema["anyOf"][0], said)
    match schema.get("type", "object"):
        case "object":
            wanted = schema.get("properties", {})
            return {name: _filled(part, said) for name, part in wanted.items()}
        case "integer" | "number":
            number = _NUMBER.search(said)
            return int(number[0]) if number else 1
        case "string":
            quoted = _QUOTED.search(said)
            return quoted[1] if quoted else said
        case kind:
            raise AssertionError(f"no value of type {kind} is made here")
