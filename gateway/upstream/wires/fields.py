"""Checked access to the parts of a request that is put into another shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import UNREADABLE_JSON, InvalidRequest, quoted
from gateway.upstream.wires.wire import RawFields

_JSON_NAMES = {str: "a string", list: "an array", dict: "an object", bool: "true or false"}


def decode_field(fields: RawFields, name: str) -> Any:
    """Decode a top-level field; None when it is missing or null. Raises InvalidRequest."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE_JSON as error:
        raise InvalidRequest(f"{name} is not valid JSON", param=name) from error


def expect(value: object, kind: type, where: str) -> Any:
    """Return ``value`` when it is of this JSON type, else raise InvalidRequest naming ``where``."""
    if isinstance(value, kind):
        return value
    raise InvalidRequest(f"{where} must be {_JSON_NAMES[kind]}", param=where)


def text_of(item: Mapping[str, object], name: str, where: str) -> str:
    """A required string inside an object."""
    value: str = expect(item.get(name), str, f"{where}.{name}")
    return value


def unsupported(what: object, where: str) -> InvalidRequest:
    """The error for a shape that a backend which only chats cannot be asked for."""
    return InvalidRequest(
        f"{where}: {quoted(what)} needs a backend that speaks this API itself",
        param=where,
        code="unsupported_value",
    )


def merged_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the system messages at the start: many chat templates allow one, and only there."""
    leading = 0
    while leading < len(messages) and messages[leading]["role"] == "system":
        leading += 1
    if leading < 2:
        return messages
    joined = "\n\n".join(str(m["content"]) for m in messages[:leading])
    return [{"role": "system", "content": joined}, *messages[leading:]]
