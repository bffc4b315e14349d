"""One chat stream out of several answers: where a backend broke off, another goes on with its text.

The second is asked by vLLM's ``continue_final_message``: what was delivered stands as the beginning of
its answer. Plain text at temperature 0 alone can be continued so: all else has state that is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import UNREADABLE_JSON, BadUpstreamAnswer, GatewayError
from gateway.upstream.answers import Chunk
from gateway.upstream.sse import DONE
from gateway.upstream.usage import TokenUsage, read_usage
from gateway.upstream.wires.openai import ChatReader
from gateway.upstream.wires.wire import Question, RawFields

#: Fields of a question that leave an answer continuable; any other one may hold state or grammar.
_HARMLESS = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "temperature", "seed", "stop", "top_p"),
        *("n", "user", "max_tokens", "max_completion_tokens"),
    }
)
_LIMITS = ("max_tokens", "max_completion_tokens")
#: Longer answers are not kept, and so not continued: an open stream costs no more than this.
_MAX_TEXT_CHARS = 256 * 1024
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")

_fields = msgspec.json.Decoder(RawFields)
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])


class Delivered(msgspec.Struct):
    """What of one answer has reached the client, over all attempts at it."""

    texts: list[str] = msgspec.field(default_factory=list)
    chars: int = 0
    #: Whether there was nothing but text.
    is_plain: bool = True
    #: Of the first attempt, which the whole stream goes under.
    id: object = None
    created: object = None
    #: What the first attempt read, as far as it said.
    prompt: TokenUsage | None = None
    #: Tokens written by the attempts before this one, and whether they said so themselves.
    tokens_before: int = 0
    is_counted: bool = True
    #: Of this attempt: events with text, and its own last word on what it used.
    events: int = 0
    own: TokenUsage | None = None
    has_broken_off: bool = False
    #: White space at the end of what was delivered: the next attempt writes it again.
    owed: int = 0

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def add(self, text: str) -> None:
        self.texts.append(text)
        self.chars += len(text)
        self.events += 1
        if self.chars > _MAX_TEXT_CHARS:
            self.is_plain = False
            self.texts.clear()

    def break_off(self) -> int:
        """This attempt has ended before its answer did; what comes next is another's.

        Returns the tokens that it used, read and written, as far as is known.
        """
        written = self.events if self.own is None else self.own.completion_tokens
        read = 0 if self.own is None else self.own.prompt_tokens
        self.tokens_before += written
        self.is_counted &= self.own is not None
        self.events, self.own = 0, None
        self.has_broken_off = True
        text = self.text
        self.owed = len(text) - len(text.rstrip())
        return read + written

    def without_repeated_space(self, text: str) -> str:
        """Take from the beginning of a continuation the white space that the client has already."""
        kept = text.lstrip()
        repeated = min(self.owed, len(text) - len(kept))
        self.owed = 0 if kept else self.owed - repeated
        return text[repeated:]

    def usage(self) -> TokenUsage | None:
        """What all attempts used together: the prompt once, every token that was written."""
        own = self.own
        if own is None and not self.has_broken_off:
            return None
        written = self.tokens_before + (self.events if own is None else own.completion_tokens)
        is_estimated = own is None or not self.is_counted or self.prompt is None
        prompt = self.prompt
        if prompt is None and own is not None:
            prompt = TokenUsage(max(0, own.prompt_tokens - self.tokens_before), own.cached_tokens)
        if prompt is None:
            return None  # whoever accounts for it estimates both
        return TokenUsage(prompt.prompt_tokens, prompt.cached_tokens, written, is_estimated)


def continued(question: Question, delivered: Delivered) -> Question | None:
    """The question that goes on where ``delivered`` ends; None where that cannot be asked.

    Also the first one: it asks for the count of tokens with every event, so that a break is no guess.
    """
    fields = _fields.decode(question.body)
    if not _is_harmless(fields):
        return None
    options = _fields.decode(fields["stream_options"])
    options["continuous_usage_stats"] = _TRUE
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    for name in _LIMITS:
        limit = _decoded(fields.get(name))
        if isinstance(limit, int) and delivered.tokens_before:
            if limit <= delivered.tokens_before:
                return None
            fields[name] = msgspec.Raw(msgspec.json.encode(limit - delivered.tokens_before))
    # A template may trim its end; trimmed here it is the same for all, and given once.
    text = delivered.text.rstrip()
    if text:
        begun = msgspec.Raw(msgspec.json.encode({"role": "assistant", "content": text}))
        messages = [*_raw_list.decode(fields["messages"]), begun]
        fields["messages"] = msgspec.Raw(msgspec.json.encode(messages))
        fields["continue_final_message"], fields["add_generation_prompt"] = _TRUE, _FALSE
    return msgspec.structs.replace(question, body=msgspec.json.encode(fields))


def _is_harmless(fields: Mapping[str, msgspec.Raw]) -> bool:
    if any(bytes(raw) != b"null" and name not in _HARMLESS for name, raw in fields.items()):
        return False
    temperature = _decoded(fields.get("temperature"))
    if (
        temperature != 0
        or isinstance(temperature, bool)
        or _decoded(fields.get("n")) not in {None, 1}
    ):
        return False
    messages = _decoded(fields.get("messages"))
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return False
    return messages[-1].get("role") in {"user", "system", "developer"}


def _decoded(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


class ContinuedReader:
    """An ``EventReader`` that notes what it delivers, and makes what continues it fit on to it."""

    def __init__(self, inner: ChatReader, delivered: Delivered, *, shows_counts: bool) -> None:
        """``shows_counts`` when the client itself asked for usage with every event."""
        self._inner = inner
        self._delivered = delivered
        self._shows_counts = shows_counts

    def take(self, data: bytes) -> Chunk:
        if data == DONE:
            return self._inner.take(data)
        document = _object(data)
        choices = document.get("choices")
        if document.get("error") is not None or not isinstance(choices, list):
            return self._inner.take(data)
        delivered = self._delivered
        own = document.get("usage")
        if own is not None:
            delivered.own = read_usage(msgspec.json.encode(own))
            if delivered.prompt is None and not delivered.has_broken_off:
                delivered.prompt = delivered.own
        was_empty = not choices
        self._note(choices)
        if delivered.has_broken_off:
            document["id"], document["created"] = delivered.id, delivered.created
            if choices and not any(map(_says, choices)):
                return Chunk(None, delivered.usage(), has_content=False, is_finish=False)
        elif delivered.id is None:
            delivered.id, delivered.created = document.get("id"), document.get("created")
        usage = delivered.usage()
        if own is not None and not (was_empty or self._shows_counts):
            del document["usage"]
        elif own is not None and usage is not None:
            document["usage"] = _added_up(own, usage)
        chunk = self._inner.take(msgspec.json.encode(document))
        return chunk if usage is None else msgspec.structs.replace(chunk, usage=usage)

    def _note(self, choices: list[Any]) -> None:
        """Note what these deltas say; of a continuation take out what the client has already."""
        delivered = self._delivered
        for choice in choices:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if not isinstance(delta, dict) or choice.get("index", 0) != 0:
                delivered.is_plain = False
                continue
            said = {name for name, value in delta.items() if value not in (None, [], "")}
            text = delta.get("content")
            if said - {"role", "content"} or choice.get("logprobs") is not None:
                delivered.is_plain = False
            elif isinstance(text, str) and text:
                if delivered.has_broken_off:
                    delta["content"] = text = delivered.without_repeated_space(text)
                    delta.pop("role", None)
                delivered.add(text)

    def end(self) -> bytes:
        return self._inner.end()

    def error_event(self, error: GatewayError) -> bytes:
        return self._inner.error_event(error)


def _says(choice: dict[str, Any]) -> bool:
    """Whether a delta has anything for a client that had the beginning from elsewhere."""
    delta = choice.get("delta") or {}
    rest = {name for name, value in delta.items() if name != "role" and value not in (None, "", [])}
    return bool(rest) or choice.get("finish_reason") is not None


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend sent what is not a JSON answer") from error
    if not isinstance(document, dict):
        raise BadUpstreamAnswer("the backend sent what is not a JSON answer")
    return document


def _added_up(own: object, usage: TokenUsage) -> dict[str, Any]:
    told = dict(own) if isinstance(own, dict) else {}
    told |= {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    return told
