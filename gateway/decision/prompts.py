"""The prompt inside a request, for each wire shape: what routing reads, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.errors import UNREADABLE_JSON, InvalidRequest

RawFields = dict[str, msgspec.Raw]
Prompt = str | Sequence[Mapping[str, object]]

#: What a token id stands for where sizes are told in bytes of text.
_BYTES_PER_TOKEN = 4
_ITEM_ROLES = {"function_call_output": "tool", "function_call": "assistant"}

_messages = msgspec.json.Decoder(list[dict[str, Any]])
_texts = msgspec.json.Decoder(str | list[str | int | list[int]])
_input = msgspec.json.Decoder(str | list[dict[str, Any]])
_system = msgspec.json.Decoder(str | list[dict[str, Any]])
_strings = msgspec.json.Decoder(str)


class PromptPart(msgspec.Struct, frozen=True):
    """``text`` is what routing reads; sizes are bytes on the wire.

    ``longest_bytes`` is what one context must hold: of a batch of ``inputs``, the longest.
    """

    text: Prompt
    size_bytes: int
    longest_bytes: int
    inputs: int = 1


def read_field(fields: RawFields, name: str, decoder: msgspec.json.Decoder[Any], kind: str) -> Any:
    """Decode a field; None when it is missing or null. Raises InvalidRequest."""
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return decoder.decode(raw)
    except UNREADABLE_JSON as error:
        raise InvalidRequest(f"{name} must be {kind}", param=name) from error


def _required(fields: RawFields, name: str, decoder: msgspec.json.Decoder[Any], kind: str) -> Any:
    value = read_field(fields, name, decoder, kind)
    if value is None:
        raise InvalidRequest(f"{name} is missing", param=name, code="missing_field")
    if isinstance(value, list) and not value:
        raise InvalidRequest(f"{name} must not be empty", param=name)
    return value


def read_chat(fields: RawFields) -> PromptPart:
    messages = _required(fields, "messages", _messages, "an array of messages")
    size = len(bytes(fields["messages"]))
    return PromptPart(messages, size, size)


def read_completion_prompt(fields: RawFields) -> PromptPart:
    return _read_texts(fields, "prompt")


def read_embedding_input(fields: RawFields) -> PromptPart:
    return _read_texts(fields, "input")


def _read_texts(fields: RawFields, name: str) -> PromptPart:
    """A text, a list of texts, a list of token ids, or a list of such lists."""
    kind = "a string, an array of strings, or one or more arrays of token ids"
    value = _required(fields, name, _texts, kind)
    if isinstance(value, str):
        size = len(bytes(fields[name]))
        return PromptPart(value, size, size)
    kinds = {type(item) for item in value}
    if len(kinds) > 1:
        raise InvalidRequest(f"{name} must be {kind}", param=name)
    if kinds == {int}:
        size = len(value) * _BYTES_PER_TOKEN
        return PromptPart("", size, size)
    if kinds == {str}:
        sizes = [len(item.encode("utf-8", "replace")) for item in value]
        return PromptPart("\n".join(value), sum(sizes), max(sizes), len(value))
    sizes = [len(item) * _BYTES_PER_TOKEN for item in value]
    return PromptPart("", sum(sizes), max(sizes), len(value))


def read_responses_input(fields: RawFields) -> PromptPart:
    """``input`` as chat messages, roughly: enough to see what is asked and whether it has images.

    The API lets it be missing: a stored prompt or conversation may stand for it at a backend.
    """
    value: Any = ""
    if bytes(fields.get("input", b"null")) != b"null":
        value = _required(fields, "input", _input, "a string or an array of items")
    instructions = read_field(fields, "instructions", _strings, "a string")
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    messages = [_as_message(item) for item in value]
    if instructions is not None:
        messages.insert(0, {"role": "system", "content": instructions})
    size = len(bytes(fields.get("input", b""))) + len(bytes(fields.get("instructions", b"")))
    return PromptPart(messages, size, size)


def _as_message(item: Mapping[str, Any]) -> dict[str, Any]:
    role = _ITEM_ROLES.get(str(item.get("type")), item.get("role"))
    return {"role": role, "content": item.get("content", item.get("output"))}


def read_anthropic_messages(fields: RawFields) -> PromptPart:
    prompt = read_anthropic_prompt(fields)
    if "max_tokens" not in fields:
        raise InvalidRequest("max_tokens is missing", param="max_tokens", code="missing_field")
    return prompt


def read_anthropic_prompt(fields: RawFields) -> PromptPart:
    messages = _required(fields, "messages", _messages, "an array of messages")
    system = read_field(fields, "system", _system, "a string or an array of text blocks")
    size = len(bytes(fields["messages"])) + len(bytes(fields.get("system", b"")))
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return PromptPart(messages, size, size)
