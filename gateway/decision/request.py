"""A client's request, decoded once: only the fields that routing needs are looked at.

The rest stays as the bytes that came, so that a backend gets exactly what the client wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.errors import UNREADABLE_JSON, InvalidRequest
from gateway.upstream.backend import BackendHandle

RawFields = dict[str, msgspec.Raw]
Prompt = str | Sequence[Mapping[str, object]]

#: Fields that speak to the gateway; no backend sees them.
ROUTING_FIELDS = ("routing", "models", "provider", "session_id", "max_cost", "willingness_to_pay")
#: Fields that would let a caller choose where a request goes with whose key.
_FORBIDDEN_FIELDS = ("api_base", "base_url", "api_key", "extra_headers", "user_config")

_fields = msgspec.json.Decoder(RawFields)
_messages = msgspec.json.Decoder(list[dict[str, Any]])
_strings = msgspec.json.Decoder(str)
_bools = msgspec.json.Decoder(bool)
_counts = msgspec.json.Decoder(int | None)
_TRUE = msgspec.Raw(b"true")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route of the data path: the same path at the backend, and the field that holds the prompt."""

    path: str
    prompt_field: str


CHAT = Endpoint("/chat/completions", "messages")
COMPLETIONS = Endpoint("/completions", "prompt")


class ParsedRequest(msgspec.Struct, frozen=True):
    """``fields`` are the raw top-level fields, ``prompt_bytes`` the prompt's size on the wire."""

    endpoint: Endpoint
    fields: RawFields
    model: str
    prompt: Prompt
    prompt_bytes: int
    is_stream: bool
    wants_usage: bool
    max_output_tokens: int | None
    routing: Mapping[str, object]

    def body_for(self, backend: BackendHandle) -> bytes:
        """The body that a backend gets: its own name of the model, nothing meant for the gateway."""
        fields = {k: v for k, v in self.fields.items() if k not in ROUTING_FIELDS}
        fields["model"] = msgspec.Raw(msgspec.json.encode(backend.served_model))
        if self.is_stream:
            # Always asked for, since what was used must be known; stripped from the answer if the
            # client did not ask.
            options = _fields.decode(_object_or_empty(fields.get("stream_options")))
            options["include_usage"] = _TRUE
            fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
        fields.update(backend.extra_fields)
        return msgspec.json.encode(fields)


def parse_request(body: bytes, endpoint: Endpoint) -> ParsedRequest:
    """Decode a request's body.

    Raises InvalidRequest naming the field that is missing, malformed or forbidden.
    """
    try:
        fields = _fields.decode(body)
    except UNREADABLE_JSON as error:
        raise InvalidRequest(f"the body is not a JSON object: {error}") from error
    for name in _FORBIDDEN_FIELDS:
        if name in fields:
            raise InvalidRequest(f"{name} cannot be set by a request", param=name)
    model = _read(fields, "model", _strings, "a string")
    if model is None:
        raise InvalidRequest("model is missing", param="model", code="missing_field")
    is_stream = bool(_read(fields, "stream", _bools, "true or false"))
    options = _read_options(fields)
    prompt, prompt_bytes = _read_prompt(fields, endpoint)
    return ParsedRequest(
        endpoint=endpoint,
        fields=fields,
        model=model,
        prompt=prompt,
        prompt_bytes=prompt_bytes,
        is_stream=is_stream,
        wants_usage=bool(_read(options, "include_usage", _bools, "true or false")),
        max_output_tokens=_read_max_tokens(fields),
        routing={k: _decode_any(fields[k], k) for k in ROUTING_FIELDS if k in fields},
    )


def _read(fields: RawFields, name: str, decoder: msgspec.json.Decoder[Any], kind: str) -> Any:
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return decoder.decode(raw)
    except UNREADABLE_JSON as error:
        raise InvalidRequest(f"{name} must be {kind}", param=name) from error


def _read_options(fields: RawFields) -> RawFields:
    return _read(fields, "stream_options", _fields, "an object") or {}


def _object_or_empty(raw: msgspec.Raw | None) -> bytes:
    return b"{}" if raw is None or bytes(raw) == b"null" else bytes(raw)


def _read_prompt(fields: RawFields, endpoint: Endpoint) -> tuple[Prompt, int]:
    name = endpoint.prompt_field
    is_chat = endpoint is CHAT
    kind = "an array of messages" if is_chat else "a string"
    prompt = _read(fields, name, _messages if is_chat else _strings, kind)
    if prompt is None:
        raise InvalidRequest(f"{name} is missing", param=name, code="missing_field")
    if is_chat and not prompt:
        raise InvalidRequest("messages must not be empty", param=name)
    return prompt, len(bytes(fields[name]))


def _read_max_tokens(fields: RawFields) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = _read(fields, name, _counts, "an integer")
        if limit is not None:
            if limit < 1:
                raise InvalidRequest(f"{name} must be at least 1", param=name)
            return int(limit)
    return None


def _decode_any(raw: msgspec.Raw, name: str) -> object:
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE_JSON as error:
        raise InvalidRequest(f"{name} is not valid JSON", param=name) from error
