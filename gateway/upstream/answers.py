"""A backend's answer on its way to the client: errors read, the served model and the cost written in.

Only the fields named here are touched; every other byte of an answer passes unread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import ceil

import msgspec

from gateway.errors import UNREADABLE_JSON, BackendRefused, BadUpstreamAnswer
from gateway.masking import mask
from gateway.upstream.plain_answer import restamped
from gateway.upstream.sse import DONE, encode_event
from gateway.upstream.usage import TokenUsage, read_usage, with_cost

Pricer = Callable[[TokenUsage], float | None]
RawFields = dict[str, msgspec.Raw]

_NULL = b"null"
# Inside a JSON string the quotes would be escaped, so this can only be the field itself.
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_UNFINISHED = b'"finish_reason":null'
_raw_fields = msgspec.json.Decoder(RawFields)
_LONGEST_MESSAGE = 500
#: What a backend answers to a key that it does not take.
OUR_CREDENTIALS = frozenset({401, 403})


# What a field that is not there decodes to: this very object, which is quicker told than its bytes.
_ABSENT = msgspec.Raw()


class _Chunk(msgspec.Struct, gc=False):
    model: str | None = None
    choices: msgspec.Raw = msgspec.Raw(b"[]")
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_chunks = msgspec.json.Decoder(_Chunk)


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """What one event of a backend's stream becomes: ``data`` is framed, None when nothing is sent.

    ``is_finish`` says that the answer is whole, ``is_last`` that no event of it may follow,
    ``has_failed`` that the backend's last word is that it could not answer.
    """

    data: bytes | None
    usage: TokenUsage | None
    has_content: bool
    is_finish: bool
    is_last: bool = False
    has_failed: bool = False


#: What ``[DONE]`` becomes: nothing, for what ends the client's stream comes from its own grammar.
LAST = Chunk(None, None, has_content=False, is_finish=True, is_last=True)


def check_first_event(data: bytes) -> None:
    """Raise what restamp_chunk would, while another backend can still be asked."""
    if data != DONE:
        _read_chunk(data)


def check_answer(body: bytes) -> None:
    """Raise for a complete answer that is none, while another backend can still be asked."""
    _read_chunk(body)


def restamp_chunk(data: bytes, model: str, *, wants_usage: bool, price: Pricer) -> Chunk:
    """Read one event of a chat or completion stream and name the model served in it.

    Raises BadUpstreamAnswer when it is not a JSON object, BackendRefused when it is an error.
    """
    chunk = _read_chunk(data)
    choices = bytes(chunk.choices)
    has_content = choices != b"[]" and choices.strip() != b"[]"
    usage: TokenUsage | None = None
    hides_usage = False
    if chunk.usage is not _ABSENT:
        has_usage = bytes(chunk.usage) != _NULL
        usage = read_usage(chunk.usage) if has_usage else None
        if has_usage and not has_content and not wants_usage:
            return Chunk(None, usage, has_content=False, is_finish=False)
        hides_usage = not wants_usage
    if chunk.model != model or usage is not None or hides_usage:
        fields = _read_fields(data)
        if hides_usage:
            del fields["usage"]
        data = _restamp_fields(fields, model, usage, price)
    if b"\n" in data:
        data = msgspec.json.format(data, indent=-1)
    return Chunk(encode_event(data), usage, has_content, _is_finish(choices))


def _is_finish(choices: bytes) -> bool:
    """Whether any choice tells why it ended. Nearly every event has one that has not ended."""
    if _UNFINISHED in choices and choices.count(b"finish_reason") == 1:
        return False
    return _FINISHED.search(choices) is not None


def _read_chunk(data: bytes) -> _Chunk:
    try:
        chunk = _chunks.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend sent what is not a JSON answer") from error
    if chunk.error is not _ABSENT and bytes(chunk.error) != _NULL:
        raise read_refusal(None, data)
    return chunk


class PlainAnswer(msgspec.Struct, frozen=True):
    """What is looked at of a whole chat answer: ``usage`` as it stands, and read."""

    model: str | None
    raw_usage: bytes
    usage: TokenUsage | None


def read_plain_answer(body: bytes) -> PlainAnswer:
    """Raises BadUpstreamAnswer when it is not a JSON object, BackendRefused when it is an error."""
    chunk = _read_chunk(body)
    raw = bytes(chunk.usage)
    usage = None if raw in {b"", _NULL} else read_usage(raw)
    return PlainAnswer(chunk.model, raw, usage)


def restamp_answer(body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
    """Name the model served in a complete answer and add what it cost.

    Raises BadUpstreamAnswer when the body is not a JSON object, BackendRefused for an error.
    """
    answer = read_plain_answer(body)
    cost_usd = None if answer.usage is None else price(answer.usage)
    return write_over(body, answer, model, cost_usd), answer.usage


def write_over(body: bytes, answer: PlainAnswer, model: str, cost_usd: float | None) -> bytes:
    """``body``, in which ``answer`` was read, with the model served and what it cost."""
    told = restamped(body, answer.model, model, answer.raw_usage, cost_usd)
    if told is not None:
        return told
    return _restamp_fields(_read_fields(body), model, answer.usage, lambda _: cost_usd)


def _read_fields(data: bytes) -> RawFields:
    try:
        return _raw_fields.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend's answer is not a JSON object") from error


def _restamp_fields(
    fields: RawFields, model: str, usage: TokenUsage | None, price: Pricer
) -> bytes:
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if usage is not None and "usage" in fields:
        fields["usage"] = with_cost(fields["usage"], price(usage))
    return msgspec.json.encode(fields)


#: A backend that asks for more patience than this is asked again all the same.
_LONGEST_RETRY_AFTER_S = 60.0


def read_retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the whole seconds that a refusal asks to wait, within reason; None without a number.

    The HTTP date of RFC 9110 §10.2.3 is not read: clocks differ by more than such waits.
    """
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        told = headers.get(name, "")
        try:
            wait_s = float(told) * unit_s
        except ValueError:
            continue
        if wait_s >= 0:
            return ceil(min(wait_s, _LONGEST_RETRY_AFTER_S))
    return None


def check_kind(headers: Mapping[str, str], expected: str) -> None:
    """Raise BadUpstreamAnswer for an answer that is not plainly of the content type asked for."""
    if headers.get("content-encoding", "identity") != "identity":
        raise BadUpstreamAnswer("the backend encoded its answer, which was not asked for")
    content_type = headers.get("content-type", "")
    if content_type != expected:
        essence = content_type.partition(";")[0].strip().lower()
        if essence != expected:
            raise BadUpstreamAnswer(f"the backend answered {essence!r}, not {expected}")


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> BackendRefused:
    """What a backend that answered with another status than 200 amounts to."""
    refusal = read_refusal(status, body)
    refusal.retry_after_s = read_retry_after(headers)
    return refusal


def read_refusal(status: int | None, body: bytes) -> BackendRefused:
    """Word a backend's error body, whatever its shape, as the gateway's own error.

    ``status`` is None when the error came under a 200: then a number in its ``code`` tells.
    """
    message, param, code = f"the backend answered {status or 'an error'}", None, None
    try:
        document = msgspec.json.decode(body)
    except UNREADABLE_JSON:
        document = None
    if isinstance(document, dict):
        error = document.get("error", document)
        if isinstance(error, str):
            message = error
        elif isinstance(error, dict):
            told = error.get("message") or error.get("detail")
            message = told if isinstance(told, str) else message
            param = error.get("param") if isinstance(error.get("param"), str) else None
            code = error.get("code")
    if status is None:
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
    if status in OUR_CREDENTIALS:  # its words are about our key, in part or whole
        refused = "the backend refused the gateway's own credentials"
        return BackendRefused(status, refused, code="backend_credentials_refused")
    return BackendRefused(
        status,
        mask(message)[:_LONGEST_MESSAGE],
        param=None if param is None else mask(param),
        code=mask(code) if isinstance(code, str) else None,
    )
