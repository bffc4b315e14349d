"""Anthropic's Messages at a backend that only chats: the answer put into blocks, and its stream.

Source: Anthropic's API reference of messages and of their streaming.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from gateway.errors import UNREADABLE_JSON, BadUpstreamAnswer, GatewayError
from gateway.upstream.answers import LAST, Chunk, Pricer
from gateway.upstream.sse import DONE
from gateway.upstream.usage import TokenUsage
from gateway.upstream.wires import chat_answer
from gateway.upstream.wires.chat_answer import (
    Choice,
    Message,
    ToolCall,
    read_chat,
    read_whole_chat,
)
from gateway.upstream.wires.messages import STOP, error_event
from gateway.upstream.wires.wire import encode_named_event

_STOP_REASONS = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class MessagesOverChat(msgspec.Struct, frozen=True):
    """See wire.Wire. ``stop_sequences`` tell which stop was met, where a backend says so."""

    stop_sequences: tuple[str, ...] = ()
    path: str = chat_answer.PATH

    def check_answer(self, body: bytes) -> None:
        choice, _ = read_whole_chat(body)
        for call in choice.message.tool_calls or []:
            _call_input(call)

    def check_first_event(self, data: bytes) -> None:
        chat_answer.check_first_chunk(data)

    def restamp(self, body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
        choice, answer = read_whole_chat(body)
        message = choice.message
        blocks = [{**head, kind: text} for kind, head, text in _texts(message)]
        for call in message.tool_calls or []:
            blocks.append({**_call_head(call), "input": _call_input(call)})
        document = {
            **_message_head(model),
            "content": blocks,
            **_stop(choice, self.stop_sequences),
            "usage": _usage_object(answer.usage, price),
        }
        return msgspec.json.encode(document), answer.usage

    def reader(self, model: str, price: Pricer, *, wants_usage: bool) -> MessagesOverChatReader:
        return MessagesOverChatReader(model, price, self.stop_sequences)


def _message_head(model: str) -> dict[str, Any]:
    identity = f"msg_{secrets.token_hex(16)}"
    return {"id": identity, "type": "message", "role": "assistant", "model": model}


def _texts(message: Message) -> list[tuple[str, dict[str, Any], str]]:
    """The blocks of text in a message: the field that holds it, the block's head, the text."""
    told = [
        ("thinking", {"type": "thinking", "signature": ""}, message.thought),
        ("text", {"type": "text"}, (message.content or "") + (message.refusal or "")),
    ]
    return [(kind, dict(head), text) for kind, head, text in told if text]


def _call_head(call: ToolCall) -> dict[str, Any]:
    identity = call.id or f"toolu_{secrets.token_hex(12)}"
    return {"type": "tool_use", "id": identity, "name": call.function.name or "", "input": {}}


def _call_input(call: ToolCall) -> dict[str, Any]:
    """A call's arguments, decoded. Raises BadUpstreamAnswer when they are no JSON object."""
    try:
        given = msgspec.json.decode(call.function.arguments or "{}")
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the model called a tool with what is not JSON") from error
    if not isinstance(given, dict):
        raise BadUpstreamAnswer("the model called a tool with what is not a JSON object")
    return given


def _stop(choice: Choice, stop_sequences: tuple[str, ...]) -> dict[str, Any]:
    reason = _STOP_REASONS.get(choice.finish_reason or "", "end_turn")
    if reason == "end_turn" and choice.stop_reason in stop_sequences:
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stop_reason}
    return {"stop_reason": reason, "stop_sequence": None}


def _usage_object(usage: TokenUsage | None, price: Pricer) -> dict[str, Any]:
    """Anthropic counts cached tokens beside the input, never in it."""
    told = usage or TokenUsage()
    document: dict[str, Any] = {
        "input_tokens": told.prompt_tokens - told.cached_tokens,
        "output_tokens": told.completion_tokens,
        "cache_read_input_tokens": told.cached_tokens,
        "cache_creation_input_tokens": 0,
    }
    cost = None if usage is None else price(usage)
    return document if cost is None else {**document, "cost": cost}


class MessagesOverChatReader:
    """See wire.EventReader. One block is open at a time; the prompt's count comes at the end."""

    def __init__(self, model: str, price: Pricer, stop_sequences: tuple[str, ...]) -> None:
        self._model = model
        self._price = price
        self._stop_sequences = stop_sequences
        self._has_begun = False
        self._index = -1
        #: What the open block holds: "text", "thinking" or a call's index; None when none is open.
        self._open: str | int | None = None
        self._calls: set[int] = set()
        self._last: Choice | None = None
        self._usage: TokenUsage | None = None

    def take(self, data: bytes) -> Chunk:
        if data == DONE:
            return LAST
        answer = read_chat(data)
        frames = [] if self._has_begun else [self._begin()]
        self._usage = answer.usage or self._usage
        choice = answer.choice
        is_finish = False
        if choice is not None:
            self._add(choice.delta, frames)
            if choice.finish_reason is not None:
                self._last, is_finish = choice, True
        sent = b"".join(frames)
        return Chunk(sent or None, answer.usage, choice is not None, is_finish)

    def _begin(self) -> bytes:
        self._has_begun = True
        message = {
            **_message_head(self._model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return encode_named_event({"type": "message_start", "message": message})

    def _add(self, delta: Message, frames: list[bytes]) -> None:
        for kind, head, text in _texts(delta):
            if self._open != kind:
                self._open_block(kind, {**head, kind: ""}, frames)
            frames.append(self._delta({"type": f"{kind}_delta", kind: text}))
        for call in delta.tool_calls or []:
            if self._open != call.index:
                if call.index in self._calls:
                    raise BadUpstreamAnswer("the backend went back to a tool call that had ended")
                self._calls.add(call.index)
                self._open_block(call.index, _call_head(call), frames)
            if call.function.arguments:
                piece = call.function.arguments
                frames.append(self._delta({"type": "input_json_delta", "partial_json": piece}))

    def _open_block(self, kind: str | int, block: dict[str, Any], frames: list[bytes]) -> None:
        self._close_block(frames)
        self._index += 1
        self._open = kind
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        frames.append(encode_named_event(event))

    def _delta(self, delta: dict[str, str]) -> bytes:
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return encode_named_event(event)

    def _close_block(self, frames: list[bytes]) -> None:
        if self._open is not None:
            frames.append(encode_named_event({"type": "content_block_stop", "index": self._index}))
            self._open = None

    def end(self) -> bytes:
        frames = [] if self._has_begun else [self._begin()]
        self._close_block(frames)
        delta = {
            "type": "message_delta",
            "delta": _stop(self._last or Choice(), self._stop_sequences),
            "usage": _usage_object(self._usage, self._price),
        }
        return b"".join([*frames, encode_named_event(delta), STOP])

    def error_event(self, error: GatewayError) -> bytes:
        return error_event(error)
