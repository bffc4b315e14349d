"""OpenAI's Responses at a backend that speaks them: events pass, the model and the cost written in.

A stream ends with ``response.completed``, ``.incomplete`` or ``.failed``, or with one ``error`` event;
there is no ``[DONE]``.
"""

from __future__ import annotations

import msgspec

from gateway.errors import UNREADABLE_JSON, BadUpstreamAnswer, GatewayError
from gateway.upstream.answers import Chunk, Pricer, read_refusal
from gateway.upstream.usage import TokenUsage, read_input_output_usage, with_cost
from gateway.upstream.wires.wire import RawFields, encode_named_event, frame_named_event

PATH = "/responses"
#: Events after which nothing comes.
TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_NULL = b"null"


class _Event(msgspec.Struct):
    type: str
    response: msgspec.Raw = msgspec.Raw(_NULL)
    sequence_number: int | None = None


class _Answer(msgspec.Struct):
    output: msgspec.Raw
    error: msgspec.Raw = msgspec.Raw(_NULL)


_events = msgspec.json.Decoder(_Event)
_answers = msgspec.json.Decoder(_Answer)
_raw_fields = msgspec.json.Decoder(RawFields)


def error_event(error: GatewayError, sequence_number: int) -> bytes:
    """The grammar's ``error`` event; ``error`` inside it is what OpenAI's SDKs raise from."""
    document = error.as_object()
    return encode_named_event(
        {
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "sequence_number": sequence_number,
            "error": document,
        }
    )


class ResponsesReader:
    """See wire.EventReader."""

    def __init__(self, model: str, price: Pricer) -> None:
        self._model = model
        self._price = price
        self._next_number = 0

    def take(self, data: bytes) -> Chunk:
        event = _read_event(data)
        if event.sequence_number is not None:
            self._next_number = event.sequence_number + 1
        else:
            self._next_number += 1
        usage = None
        if bytes(event.response) != _NULL:
            fields = _fields_of(data)
            response, usage = _restamp(event.response, self._model, self._price)
            fields["response"] = msgspec.Raw(response)
            data = msgspec.json.encode(fields)
        is_last = event.type in TERMINAL
        return Chunk(
            frame_named_event(event.type, data),
            usage,
            has_content=event.type.endswith(".delta"),
            is_finish=is_last,
            is_last=is_last,
            has_failed=event.type == "response.failed",
        )

    def end(self) -> bytes:
        return b""

    def error_event(self, error: GatewayError) -> bytes:
        return error_event(error, self._next_number)


class ResponsesWire(msgspec.Struct, frozen=True):
    """See wire.Wire."""

    path: str = PATH

    def check_answer(self, body: bytes) -> None:
        try:
            answer = _answers.decode(body)
        except UNREADABLE_JSON as error:
            raise BadUpstreamAnswer("the backend's answer is not a response object") from error
        if bytes(answer.error) != _NULL:
            raise read_refusal(None, body)

    def check_first_event(self, data: bytes) -> None:
        event = _read_event(data)
        if event.type == "response.failed":
            raise read_refusal(None, bytes(event.response))

    def restamp(self, body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
        return _restamp(body, model, price)

    def reader(self, model: str, price: Pricer, *, wants_usage: bool) -> ResponsesReader:
        return ResponsesReader(model, price)


def _read_event(data: bytes) -> _Event:
    try:
        event = _events.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend sent what is not a Responses event") from error
    if event.type == "error":
        raise read_refusal(None, data)
    if "\n" in event.type or "\r" in event.type:
        raise BadUpstreamAnswer("the backend sent an event whose type is no name")
    return event


def _fields_of(data: bytes | msgspec.Raw) -> RawFields:
    try:
        return _raw_fields.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend's response is not an object") from error


def _restamp(
    raw: bytes | msgspec.Raw, model: str, price: Pricer
) -> tuple[bytes, TokenUsage | None]:
    fields = _fields_of(raw)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    usage = read_input_output_usage(fields["usage"]) if "usage" in fields else None
    if usage is not None:
        fields["usage"] = with_cost(fields["usage"], price(usage))
    return msgspec.json.encode(fields), usage
