"""Anthropic's Messages at a backend that speaks them, and the form of their errors.

A stream runs from ``message_start`` to ``message_stop``; usage comes in pieces, the prompt's with the
first event and the answer's with ``message_delta``.
"""

from __future__ import annotations

import msgspec

from gateway.errors import UNREADABLE_JSON, BadUpstreamAnswer, GatewayError
from gateway.upstream.answers import Chunk, Pricer, read_refusal
from gateway.upstream.usage import TokenUsage, read_input_output_usage, with_cost
from gateway.upstream.wires.wire import RawFields, encode_named_event, frame_named_event

PATH = "/messages"
COUNT_PATH = "/messages/count_tokens"
STOP = encode_named_event({"type": "message_stop"})
_NULL = b"null"
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_document(error: GatewayError) -> dict[str, object]:
    """Anthropic's error object; ``param`` and ``code`` come on top, as they tell what to change."""
    kind = _ERROR_TYPES.get(error.status)
    if kind is None:
        kind = "api_error" if error.status >= 500 else "invalid_request_error"
    return {"type": "error", "error": {**error.as_object(), "type": kind}}


def error_body(error: GatewayError) -> bytes:
    return msgspec.json.encode(error_document(error))


def error_event(error: GatewayError) -> bytes:
    return encode_named_event(error_document(error))


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(_NULL)
    usage: msgspec.Raw = msgspec.Raw(_NULL)
    delta: _Delta | None = None


class _Answer(msgspec.Struct):
    type: str
    content: list[msgspec.Raw] | None = None


_events = msgspec.json.Decoder(_Event)
_answers = msgspec.json.Decoder(_Answer)
_raw_fields = msgspec.json.Decoder(RawFields)


class MessagesReader:
    """See wire.EventReader. Counts of later events replace those of ``message_start``."""

    def __init__(self, model: str, price: Pricer) -> None:
        self._model = model
        self._price = price
        self._counts: RawFields = {}
        self._is_stopped = False

    def take(self, data: bytes) -> Chunk:
        event = _read_event(data)
        usage = None
        if event.type == "message_start":
            fields, message = _fields_of(data), _fields_of(event.message)
            message["model"] = msgspec.Raw(msgspec.json.encode(self._model))
            usage = self._merge(message.get("usage"))
            fields["message"] = msgspec.Raw(msgspec.json.encode(message))
            data = msgspec.json.encode(fields)
        elif event.type == "message_delta" and bytes(event.usage) != _NULL:
            usage = self._merge(event.usage)
            data = self._priced(data, event.usage, usage)
        self._is_stopped = event.type == "message_stop"
        return Chunk(
            frame_named_event(event.type, data),
            usage,
            has_content=event.type == "content_block_delta",
            is_finish=event.delta is not None and event.delta.stop_reason is not None,
            is_last=self._is_stopped,
        )

    def _merge(self, counts: msgspec.Raw | None) -> TokenUsage | None:
        if counts is not None and bytes(counts) != _NULL:
            told = _fields_of(counts)
            self._counts.update({k: v for k, v in told.items() if bytes(v) != _NULL})
        return read_input_output_usage(msgspec.json.encode(self._counts))

    def _priced(self, data: bytes, counts: msgspec.Raw, usage: TokenUsage | None) -> bytes:
        cost = None if usage is None else self._price(usage)
        if cost is None:
            return data
        fields = _fields_of(data)
        fields["usage"] = with_cost(counts, cost)
        return msgspec.json.encode(fields)

    def end(self) -> bytes:
        return b"" if self._is_stopped else STOP

    def error_event(self, error: GatewayError) -> bytes:
        return error_event(error)


class MessagesWire(msgspec.Struct, frozen=True):
    """See wire.Wire."""

    path: str = PATH

    def check_answer(self, body: bytes) -> None:
        try:
            answer = _answers.decode(body)
        except UNREADABLE_JSON as error:
            raise BadUpstreamAnswer("the backend's answer is not a message") from error
        if answer.type == "error":
            raise read_refusal(None, body)
        if answer.content is None:
            raise BadUpstreamAnswer("the backend's message has no content")

    def check_first_event(self, data: bytes) -> None:
        _read_event(data)

    def restamp(self, body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
        fields = _fields_of(body)
        fields["model"] = msgspec.Raw(msgspec.json.encode(model))
        usage = read_input_output_usage(fields["usage"]) if "usage" in fields else None
        if usage is not None:
            fields["usage"] = with_cost(fields["usage"], price(usage))
        return msgspec.json.encode(fields), usage

    def reader(self, model: str, price: Pricer, *, wants_usage: bool) -> MessagesReader:
        return MessagesReader(model, price)


class _Count(msgspec.Struct):
    input_tokens: int


_counted = msgspec.json.Decoder(_Count)


class CountTokensWire(MessagesWire, frozen=True):
    """A count is passed on as it is, and costs nothing."""

    path: str = COUNT_PATH

    def check_answer(self, body: bytes) -> None:
        try:
            _counted.decode(body)
        except UNREADABLE_JSON as error:
            raise BadUpstreamAnswer("the backend's answer is not a count of tokens") from error

    def restamp(self, body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
        return body, TokenUsage()


def _read_event(data: bytes) -> _Event:
    try:
        event = _events.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend sent what is not a Messages event") from error
    if event.type == "error":
        raise read_refusal(None, data)
    if "\n" in event.type or "\r" in event.type:
        raise BadUpstreamAnswer("the backend sent an event whose type is no name")
    return event


def _fields_of(data: bytes | msgspec.Raw) -> RawFields:
    try:
        return _raw_fields.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend's message is not an object") from error
