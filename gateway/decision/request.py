"""A client's request, decoded once: only the fields that routing needs are looked at.

The rest stays as the bytes that came, so that a backend gets exactly what the client wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from gateway.decision.endpoints import Endpoint
from gateway.decision.prompts import PromptPart, RawFields, read_field
from gateway.errors import UNREADABLE_JSON, InvalidRequest
from gateway.telemetry.trace_context import passed_on
from gateway.upstream.backend import BackendHandle
from gateway.upstream.wires.wire import Question

#: Fields that speak to the gateway; no backend sees them.
ROUTING_FIELDS = ("routing", "models", "provider", "session_id", "max_cost", "willingness_to_pay")
#: Fields that would let a caller choose where a request goes with whose key.
_FORBIDDEN_FIELDS = ("api_base", "base_url", "api_key", "extra_headers", "user_config")

_fields = msgspec.json.Decoder(RawFields)
_strings = msgspec.json.Decoder(str)
_bools = msgspec.json.Decoder(bool)
_counts = msgspec.json.Decoder(int | None)
_TRUE = msgspec.Raw(b"true")
#: Where the beginning of a prompt stands, in the order in which engines read it.
_PREFIX_FIELDS = ("system", "instructions", "messages", "input", "prompt")
_PREFIX_BYTES = 4096
_NO_HEADERS: Mapping[str, str] = {}
_LONGEST_HEADER = 200
_DURATION = re.compile(r"\d{1,9}(\.\d{1,6})?")
#: What an engine or the balancer of its replicas reads, and its form where that is a number: vLLM
#: 0.32, then llm-d's endpoint picker and Gateway API Inference Extension's. Others ignore them.
_ENGINE_HEADERS: Mapping[str, re.Pattern[str] | None] = {
    "x-session-id": None,
    "x-vllm-priority": re.compile(r"-?\d{1,9}"),
    "x-data-parallel-rank": re.compile(r"\d{1,5}"),
    "x-session-token": None,
    "x-llm-d-inference-objective": None,
    "x-llm-d-inference-fairness-id": None,
    "x-llm-d-slo-ttft-ms": _DURATION,
    "x-llm-d-slo-tpot-ms": _DURATION,
    "x-gateway-inference-objective": None,
    "x-gateway-inference-fairness-id": None,
    "x-slo-ttft-ms": _DURATION,
    "x-slo-tpot-ms": _DURATION,
}


class ParsedRequest(msgspec.Struct, frozen=True):
    """``fields`` are the raw top-level fields, ``headers`` those that belong to the endpoint's API,
    ``engine_headers`` those that an inference server reads: session, priority, data-parallel rank,
    and the trace that the request belongs to.
    """

    endpoint: Endpoint
    fields: RawFields
    model: str
    prompt: PromptPart
    is_stream: bool
    wants_usage: bool
    max_output_tokens: int | None
    routing: Mapping[str, object]
    headers: Mapping[str, str]
    engine_headers: Mapping[str, str] = {}

    def prefix(self) -> bytes:
        """How the conversation begins, up to the first answer: every later turn repeats it."""
        told = (bytes(self.fields[name]) for name in _PREFIX_FIELDS if name in self.fields)
        begun = b"".join(told).partition(b'"assistant"')[0]
        return begun[:_PREFIX_BYTES]

    def question_for(self, backend: BackendHandle) -> Question:
        """What a backend is asked: in its own name of the model, nothing meant for the gateway.

        Raises InvalidRequest when the backend only chats and chat cannot say it.
        """
        endpoint = self.endpoint
        asked = {k: v for k, v in self.fields.items() if k not in ROUTING_FIELDS}
        headers, ends_with_usage = self.headers, endpoint.has_stream_options
        if endpoint.name in backend.endpoints or endpoint.over_chat is None:
            wire = endpoint.wire(self.prompt)
        else:
            wire, asked = endpoint.over_chat(asked)
            headers, ends_with_usage = _NO_HEADERS, True
        if self.engine_headers:
            headers = {**self.engine_headers, **headers}
        asked["model"] = msgspec.Raw(msgspec.json.encode(backend.served_model))
        if self.is_stream and ends_with_usage:
            # Always asked for, since what was used must be known; stripped from the answer if the
            # client did not ask.
            options = _fields.decode(_object_or_empty(asked.get("stream_options")))
            options["include_usage"] = _TRUE
            asked["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
        asked.update(backend.extra_fields)
        return Question(wire, msgspec.json.encode(asked), headers)


def parse_request(
    body: bytes, endpoint: Endpoint, headers: Mapping[str, str] = _NO_HEADERS
) -> ParsedRequest:
    """Decode a request's body; of the headers only those of the endpoint's own API are read.

    Raises InvalidRequest naming the field that is missing, malformed or forbidden.
    """
    try:
        fields = _fields.decode(body)
    except UNREADABLE_JSON as error:
        raise InvalidRequest(f"the body is not a JSON object: {error}") from error
    for name in _FORBIDDEN_FIELDS:
        if name in fields:
            raise InvalidRequest(f"{name} cannot be set by a request", param=name)
    model = read_field(fields, "model", _strings, "a string")
    if model is None:
        model = endpoint.model_unless_named
    if model is None:
        raise InvalidRequest("model is missing", param="model", code="missing_field")
    is_stream = bool(read_field(fields, "stream", _bools, "true or false"))
    options = _read_options(fields)
    return ParsedRequest(
        endpoint=endpoint,
        fields=fields,
        model=model,
        prompt=endpoint.read_prompt(fields),
        is_stream=is_stream and endpoint.makes_text,
        wants_usage=bool(read_field(options, "include_usage", _bools, "true or false")),
        max_output_tokens=_read_limit(fields, endpoint),
        headers=_forwarded(headers, endpoint),
        engine_headers=_for_engine(headers),
        routing={k: _decode_any(fields[k], k) for k in ROUTING_FIELDS if k in fields},
    )


def _read_options(fields: RawFields) -> RawFields:
    return read_field(fields, "stream_options", _fields, "an object") or {}


def _object_or_empty(raw: msgspec.Raw | None) -> bytes:
    return b"{}" if raw is None or bytes(raw) == b"null" else bytes(raw)


def _read_limit(fields: RawFields, endpoint: Endpoint) -> int | None:
    if not endpoint.makes_text:
        return 0
    for name in endpoint.limits:
        limit = read_field(fields, name, _counts, "an integer")
        if limit is not None:
            if limit < 0:  # whether none at all makes sense is the backend's to say
                raise InvalidRequest(f"{name} must be at least 0", param=name)
            return int(limit)
    return None


def _forwarded(headers: Mapping[str, str], endpoint: Endpoint) -> dict[str, str]:
    """The headers of the endpoint's own API, as given or as its default."""
    told = {name: headers.get(name, default) for name, default in endpoint.headers.items()}
    for name, value in told.items():
        if not (value.isascii() and value.isprintable() and len(value) <= _LONGEST_HEADER):
            raise InvalidRequest(f"the header {name} must be short printable ASCII", param=name)
    return {name: value for name, value in told.items() if value}


def _for_engine(headers: Mapping[str, str]) -> Mapping[str, str]:
    """What vLLM reads beside the body, checked here: a backend would answer nonsense with a 5xx."""
    told: Mapping[str, str] = _NO_HEADERS
    for name, form in _ENGINE_HEADERS.items():
        value = headers.get(name)
        if value is None:
            continue
        if form is not None and not form.fullmatch(value):
            what = "a number of milliseconds" if form is _DURATION else "a small integer"
            raise InvalidRequest(f"the header {name} must be {what}", param=name)
        if not (value.isascii() and value.isprintable() and len(value) <= _LONGEST_HEADER):
            raise InvalidRequest(f"the header {name} must be short printable ASCII", param=name)
        told = {**told, name: value}
    if "traceparent" in headers:
        told = {**told, **passed_on(headers)}
    return told


def _decode_any(raw: msgspec.Raw, name: str) -> object:
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE_JSON as error:
        raise InvalidRequest(f"{name} is not valid JSON", param=name) from error
