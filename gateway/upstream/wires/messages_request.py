"""From an Anthropic Messages request to the chat request that asks the same.

Source: Anthropic's API reference of ``/v1/messages`` and OpenAI's of ``/chat/completions``.
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

_RENAMED = {"stop_sequences": "stop"}
#: Fields without a twin in chat that change how an answer is made or billed, not what it says.
_DROPPED = ("thinking", "service_tier", "cache_control", "container", "context_management")
_TRANSLATED = ("messages", "system", "tools", "tool_choice", "metadata", "output_config")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_fields(fields: RawFields) -> RawFields:
    """Return the fields of the chat request. Raises InvalidRequest for what chat cannot say."""
    if decode_field(fields, "mcp_servers"):
        raise unsupported("mcp_servers", "mcp_servers")
    left_out = {*_DROPPED, *_TRANSLATED, *_RENAMED, "mcp_servers"}
    chat = {name: raw for name, raw in fields.items() if name not in left_out}
    for name, twin in _RENAMED.items():
        if name in fields:
            chat[twin] = fields[name]
    added: dict[str, Any] = {
        "messages": _messages(fields),
        "tools": _tools(decode_field(fields, "tools")),
        **_tool_choice(decode_field(fields, "tool_choice")),
        "user": _user(decode_field(fields, "metadata")),
        "response_format": _response_format(decode_field(fields, "output_config")),
    }
    if added["tools"] is None:  # a choice among none is an error to many backends
        added["tool_choice"] = None
    chat.update({k: msgspec.Raw(msgspec.json.encode(v)) for k, v in added.items() if v is not None})
    return chat


def _messages(fields: RawFields) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    system = decode_field(fields, "system")
    if system is not None:
        messages.append({"role": "system", "content": _plain_text(system, "system")})
    for index, item in enumerate(expect(decode_field(fields, "messages"), list, "messages")):
        where = f"messages[{index}]"
        message = expect(item, dict, where)
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise InvalidRequest(f"{where}.role must be user or assistant", param=f"{where}.role")
        if isinstance(content, str):
            messages.append({"role": role, "content": content})
        elif role == "system":
            text = _plain_text(content, f"{where}.content")
            messages.append({"role": role, "content": text})
        elif role == "user":
            _add_user(messages, expect(content, list, f"{where}.content"), f"{where}.content")
        else:
            _add_assistant(messages, expect(content, list, f"{where}.content"), f"{where}.content")
    return merged_system(messages)


def _plain_text(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, item in enumerate(expect(content, list, where)):
        block = expect(item, dict, f"{where}[{index}]")
        if block.get("type") != "text":
            raise unsupported(block.get("type"), f"{where}[{index}].type")
        texts.append(text_of(block, "text", f"{where}[{index}]"))
    return "\n".join(texts)


def _add_user(messages: list[dict[str, Any]], blocks: list[Any], where: str) -> None:
    """A user's turn: results of tools first, as chat wants them, then what the user says."""
    said: list[dict[str, Any]] = []
    for index, item in enumerate(blocks):
        place = f"{where}[{index}]"
        block = expect(item, dict, place)
        if block.get("type") != "tool_result":
            said.append(_part(block, place))
            continue
        texts, images = _tool_result(block.get("content"), f"{place}.content")
        text = f"Error: {texts}" if block.get("is_error") else texts
        call_id = text_of(block, "tool_use_id", place)
        messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
        said.extend(images)  # a tool's message holds text alone
    if len(said) == 1 and said[0]["type"] == "text":
        messages.append({"role": "user", "content": said[0]["text"]})
    elif said:
        messages.append({"role": "user", "content": said})


def _tool_result(content: object, where: str) -> tuple[str, list[dict[str, Any]]]:
    if content is None or isinstance(content, str):
        return content or "", []
    parts = [
        _part(expect(block, dict, f"{where}[{i}]"), f"{where}[{i}]")
        for i, block in enumerate(expect(content, list, where))
    ]
    texts = "\n".join(part["text"] for part in parts if part["type"] == "text")
    return texts, [part for part in parts if part["type"] != "text"]


def _part(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": text_of(block, "text", where)}
    if kind not in ("image", "document"):
        raise unsupported(kind, f"{where}.type")
    place = f"{where}.source"
    source = expect(block.get("source"), dict, place)
    if kind == "document" and source.get("type") == "text":
        return {"type": "text", "text": text_of(source, "data", place)}
    if source.get("type") == "base64":
        url = f"data:{text_of(source, 'media_type', place)};base64,{text_of(source, 'data', place)}"
        if kind == "document":
            name = str(block.get("title") or "document")
            return {"type": "file", "file": {"file_data": url, "filename": name}}
        return {"type": "image_url", "image_url": {"url": url}}
    if source.get("type") == "url" and kind == "image":
        return {"type": "image_url", "image_url": {"url": text_of(source, "url", place)}}
    raise unsupported(source.get("type"), f"{place}.type")


def _add_assistant(messages: list[dict[str, Any]], blocks: list[Any], where: str) -> None:
    texts, calls = [], []
    for index, item in enumerate(blocks):
        place = f"{where}[{index}]"
        block = expect(item, dict, place)
        kind = block.get("type")
        if kind == "text":
            texts.append(text_of(block, "text", place))
        elif kind == "tool_use":
            given = expect(block.get("input"), dict, f"{place}.input")
            function = {
                "name": text_of(block, "name", place),
                "arguments": msgspec.json.encode(given).decode(),
            }
            call_id = text_of(block, "id", place)
            calls.append({"id": call_id, "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):
            raise unsupported(kind, f"{place}.type")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if calls:
        message["tool_calls"] = calls
    elif not texts:
        message["content"] = ""
    messages.append(message)


def _tools(tools: object) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    made = []
    for index, item in enumerate(expect(tools, list, "tools")):
        where = f"tools[{index}]"
        tool = expect(item, dict, where)
        if tool.get("type", "custom") not in ("custom", None):
            raise unsupported(tool["type"], f"{where}.type")
        function = {
            "name": text_of(tool, "name", where),
            "parameters": expect(tool.get("input_schema"), dict, f"{where}.input_schema"),
        }
        if tool.get("description") is not None:
            function["description"] = text_of(tool, "description", where)
        made.append({"type": "function", "function": function})
    return made or None


def _tool_choice(choice: object) -> dict[str, object]:
    if choice is None:
        return {}
    asked = expect(choice, dict, "tool_choice")
    made: dict[str, object] = {}
    if asked.get("disable_parallel_tool_use") is not None:
        made["parallel_tool_calls"] = not asked["disable_parallel_tool_use"]
    kind = asked.get("type")
    if kind == "tool":
        name = text_of(asked, "name", "tool_choice")
        return {**made, "tool_choice": {"type": "function", "function": {"name": name}}}
    if not isinstance(kind, str) or kind not in _CHOICES:
        raise unsupported(kind, "tool_choice.type")
    return {**made, "tool_choice": _CHOICES[kind]}


def _user(metadata: object) -> object:
    return None if metadata is None else expect(metadata, dict, "metadata").get("user_id")


def _response_format(config: object) -> dict[str, Any] | None:
    if config is None:
        return None
    form = expect(config, dict, "output_config").get("format")
    if form is None:
        return None
    if expect(form, dict, "output_config.format").get("type") != "json_schema":
        raise unsupported(form.get("type"), "output_config.format.type")
    schema = expect(form.get("schema"), dict, "output_config.format.schema")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
