"""From a Responses request to the chat request that asks the same.

Source: OpenAI's API reference of ``/responses`` and ``/chat/completions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.upstream.wires.fields import (
    decode_field,
    expect,
    merged_system,
    text_of,
    unsupported,
)
from gateway.upstream.wires.wire import RawFields

#: Fields with a twin in chat, by its name.
_RENAMED = {"max_output_tokens": "max_tokens"}
#: Fields that say what to store or to tell, never what to ask a model.
_DROPPED = ("store", "include", "truncation", "background", "previous_response_id")
#: Fields that point at what a server keeps; a backend that only chats keeps nothing.
_STATEFUL = ("previous_response_id", "conversation", "prompt")
_TRANSLATED = ("input", "instructions", "tools", "tool_choice", "text", "reasoning", "top_logprobs")
_LOGPROBS = "message.output_text.logprobs"


def chat_fields(fields: RawFields) -> RawFields:
    """Return the fields of the chat request. Raises InvalidRequest for what chat cannot say."""
    for name in _STATEFUL:
        if decode_field(fields, name) is not None:
            raise unsupported(name, name)
    if decode_field(fields, "background"):
        raise unsupported("background", "background")
    left_out = {*_DROPPED, *_TRANSLATED, *_STATEFUL, *_RENAMED}
    chat = {name: raw for name, raw in fields.items() if name not in left_out}
    for name, twin in _RENAMED.items():
        if name in fields:
            chat[twin] = fields[name]
    added: dict[str, Any] = {
        "messages": _messages(fields),
        "tools": _tools(decode_field(fields, "tools")),
        "tool_choice": _tool_choice(decode_field(fields, "tool_choice")),
        "response_format": _response_format(decode_field(fields, "text")),
        "reasoning_effort": _effort(decode_field(fields, "reasoning")),
        **_logprobs(fields),
    }
    if added["tools"] is None:  # a choice among none is an error to many backends
        added["tool_choice"] = None
    chat.update({k: msgspec.Raw(msgspec.json.encode(v)) for k, v in added.items() if v is not None})
    return chat


def _messages(fields: RawFields) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    instructions = decode_field(fields, "instructions")
    if instructions is not None:
        text = expect(instructions, str, "instructions")
        messages.append({"role": "system", "content": text})
    asked = decode_field(fields, "input")
    if asked is None:
        raise InvalidRequest("input is missing", param="input", code="missing_field")
    if isinstance(asked, str):
        messages.append({"role": "user", "content": asked})
    else:
        for index, item in enumerate(expect(asked, list, "input")):
            where = f"input[{index}]"
            _add_item(messages, expect(item, dict, where), where)
    return merged_system(messages)


def _add_item(messages: list[dict[str, Any]], item: Mapping[str, Any], where: str) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role = "system" if item.get("role") == "developer" else item.get("role")
        if role not in ("user", "assistant", "system"):
            raise InvalidRequest(
                f"{where}.role must be user, assistant, system or developer", param=f"{where}.role"
            )
        content = _content(item.get("content"), f"{where}.content", is_user=role == "user")
        messages.append({"role": role, "content": content})
    elif kind == "function_call":
        _last_call_message(messages)["tool_calls"].append(
            {
                "id": text_of(item, "call_id", where),
                "type": "function",
                "function": {
                    "name": text_of(item, "name", where),
                    "arguments": text_of(item, "arguments", where),
                },
            }
        )
    elif kind == "function_call_output":
        call_id = text_of(item, "call_id", where)
        output = _content(item.get("output"), f"{where}.output", is_user=False)
        messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
    elif kind != "reasoning":  # what a model thought in an earlier turn is not said again
        raise unsupported(kind, f"{where}.type")


def _last_call_message(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message that calls of one turn belong to."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", [])
    return messages[-1]


def _content(content: object, where: str, *, is_user: bool) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    parts = [
        _part(expect(part, dict, f"{where}[{i}]"), f"{where}[{i}]")
        for i, part in enumerate(expect(content, list, where))
    ]
    if is_user and (len(parts) > 1 or any(part["type"] != "text" for part in parts)):
        return parts
    for index, part in enumerate(parts):
        if part["type"] != "text":
            raise unsupported(part["type"], f"{where}[{index}].type")
    return "\n".join(part["text"] for part in parts)


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": text_of(part, "text", where)}
    if kind == "refusal":
        return {"type": "text", "text": text_of(part, "refusal", where)}
    if kind == "input_image" and part.get("image_url") is not None:
        image = {"url": text_of(part, "image_url", where)}
        if part.get("detail") is not None:
            image["detail"] = text_of(part, "detail", where)
        return {"type": "image_url", "image_url": image}
    if kind == "input_file" and part.get("file_data") is not None:
        names = ("file_data", "filename")
        return {"type": "file", "file": {n: part[n] for n in names if part.get(n) is not None}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise unsupported(kind, f"{where}.type")


def _tools(tools: object) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    made = []
    for index, item in enumerate(expect(tools, list, "tools")):
        where = f"tools[{index}]"
        tool = expect(item, dict, where)
        if tool.get("type") != "function":
            raise unsupported(tool.get("type"), f"{where}.type")
        text_of(tool, "name", where)
        names = ("name", "description", "parameters", "strict")
        function = {name: tool[name] for name in names if tool.get(name) is not None}
        made.append({"type": "function", "function": function})
    return made or None


def _tool_choice(choice: object) -> object:
    if choice is None or isinstance(choice, str):
        return choice
    made = expect(choice, dict, "tool_choice")
    if made.get("type") != "function":
        raise unsupported(made.get("type"), "tool_choice.type")
    return {"type": "function", "function": {"name": text_of(made, "name", "tool_choice")}}


def _response_format(text: object) -> dict[str, Any] | None:
    if text is None:
        return None
    form = expect(text, dict, "text").get("format")
    if form is None:
        return None
    kind = expect(form, dict, "text.format").get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind != "json_schema":
        raise unsupported(kind, "text.format.type")
    names = ("name", "description", "schema", "strict")
    schema = {name: form[name] for name in names if form.get(name) is not None}
    return {"type": "json_schema", "json_schema": schema}


def _effort(reasoning: object) -> object:
    return None if reasoning is None else expect(reasoning, dict, "reasoning").get("effort")


def _logprobs(fields: RawFields) -> dict[str, object]:
    include = expect(decode_field(fields, "include") or [], list, "include")
    top = decode_field(fields, "top_logprobs")
    if not top and _LOGPROBS not in include:
        return {}
    return {"logprobs": True, "top_logprobs": top}
