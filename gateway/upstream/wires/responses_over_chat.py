"""Responses at a backend that only chats: the answer put into items, its stream into typed events.

Source: OpenAI's API reference of the response object and of its streaming events.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import GatewayError
from gateway.upstream.answers import LAST, Chunk, Pricer
from gateway.upstream.sse import DONE
from gateway.upstream.usage import TokenUsage
from gateway.upstream.wires import chat_answer
from gateway.upstream.wires.chat_answer import (
    ChatAnswer,
    Choice,
    Message,
    ToolCall,
    read_chat,
    read_whole_chat,
)
from gateway.upstream.wires.fields import decode_field
from gateway.upstream.wires.responses import error_event
from gateway.upstream.wires.wire import RawFields, encode_named_event

#: What the response repeats of its request, with what OpenAI answers where nothing was said.
_ECHOED: Mapping[str, object] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponsesOverChat(msgspec.Struct, frozen=True):
    """See wire.Wire. ``asked`` are the fields of the request."""

    asked: RawFields
    path: str = chat_answer.PATH

    def check_answer(self, body: bytes) -> None:
        read_whole_chat(body)

    def check_first_event(self, data: bytes) -> None:
        chat_answer.check_first_chunk(data)

    def restamp(self, body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
        choice, answer = read_whole_chat(body)
        response = _ResponseObject(self.asked, model)
        items = [item.done() for item in _whole_items(choice)]
        document = response.finished(items, choice.finish_reason, _usage_object(answer, price))
        return msgspec.json.encode(document), answer.usage

    def reader(self, model: str, price: Pricer, *, wants_usage: bool) -> ResponsesOverChatReader:
        return ResponsesOverChatReader(_ResponseObject(self.asked, model), price)


class _ResponseObject:
    """One response, whose identity stays the same from ``response.created`` on."""

    def __init__(self, asked: RawFields, model: str) -> None:
        told = {name: decode_field(asked, name) for name in _ECHOED}
        self._echoed = {
            k: default if told[k] is None else told[k] for k, default in _ECHOED.items()
        }
        self._identity = {
            "id": f"resp_{secrets.token_hex(16)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
        }

    def begun(self) -> dict[str, object]:
        return self._document("in_progress", [], None, None)

    def finished(
        self, items: list[dict[str, Any]], finish_reason: str | None, usage: dict[str, Any] | None
    ) -> dict[str, object]:
        reason = _INCOMPLETE.get(finish_reason or "")
        return self._document("incomplete" if reason else "completed", items, reason, usage)

    def _document(
        self,
        status: str,
        items: list[dict[str, Any]],
        reason: str | None,
        usage: dict[str, Any] | None,
    ) -> dict[str, object]:
        return {
            **self._identity,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": items,
            "previous_response_id": None,
            "store": False,
            "usage": usage,
            **self._echoed,
        }


def _usage_object(answer: ChatAnswer, price: Pricer) -> dict[str, Any] | None:
    usage = answer.usage
    if usage is None:
        return None
    document: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    cost = price(usage)
    return document if cost is None else {**document, "cost": cost}


class _Item:
    """An output item that grows: a message, a thought or a call."""

    def __init__(self, kind: str, part: str = "", **fields: object) -> None:
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        self.head = {"id": f"{prefix}_{secrets.token_hex(16)}", "type": kind, **fields}
        self.part = part
        self.index = 0
        self._pieces: list[str] = []
        self._logprobs: list[object] = []

    def add(self, piece: str, logprobs: object = None) -> list[object]:
        """Take a piece; return its logprobs as Responses spell them."""
        self._pieces.append(piece)
        told = logprobs.get("content") if isinstance(logprobs, dict) else None
        added = told if isinstance(told, list) else []
        self._logprobs += added
        return added

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def begun(self) -> dict[str, object]:
        return self._document("in_progress", "", [])

    def content(self, *, is_done: bool) -> dict[str, object]:
        text = self.text if is_done else ""
        if self.part == "refusal":
            return {"type": "refusal", "refusal": text}
        if self.part == "reasoning_text":
            return {"type": "reasoning_text", "text": text}
        logprobs = list(self._logprobs) if is_done else []
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def done(self, status: str = "completed") -> dict[str, object]:
        return self._document(status, self.text, [self.content(is_done=True)])

    def _document(self, status: str, text: str, content: list[Any]) -> dict[str, object]:
        if not self.part:
            return {**self.head, "arguments": text, "status": status}
        document = {**self.head, "content": content, "status": status}
        return {**document, "summary": []} if self.part == "reasoning_text" else document


def _call_item(call: ToolCall) -> _Item:
    call_id = call.id or f"call_{secrets.token_hex(12)}"
    return _Item("function_call", call_id=call_id, name=call.function.name or "")


def _text_items(message: Message) -> list[tuple[_Item, str]]:
    return [
        (_Item(kind, part, **({"role": "assistant"} if kind == "message" else {})), text)
        for kind, part, text in (
            ("reasoning", "reasoning_text", message.thought),
            ("message", "output_text", message.content or ""),
            ("message", "refusal", message.refusal or ""),
        )
        if text
    ]


def _whole_items(choice: Choice) -> list[_Item]:
    items = []
    for item, text in _text_items(choice.message):
        item.add(text, choice.logprobs if item.part == "output_text" else None)
        items.append(item)
    for call in choice.message.tool_calls or []:
        made = _call_item(call)
        made.add(call.function.arguments or "")
        items.append(made)
    return items


class ResponsesOverChatReader:
    """See wire.EventReader. One text item is open at a time; calls stay open until the end."""

    def __init__(self, response: _ResponseObject, price: Pricer) -> None:
        self._response = response
        self._price = price
        self._next_number = 0
        self._items: list[_Item] = []
        self._open: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._done: dict[int, dict[str, object]] = {}
        self._finish_reason: str | None = None
        self._last_usage: ChatAnswer | None = None

    def take(self, data: bytes) -> Chunk:
        if data == DONE:
            return LAST
        answer = read_chat(data)
        frames = self._begin() if self._next_number == 0 else []
        if answer.usage is not None:
            self._last_usage = answer
        is_finish = False
        if answer.choice is not None:
            frames += self._add(answer.choice)
            if answer.choice.finish_reason is not None:
                self._finish_reason, is_finish = answer.choice.finish_reason, True
        sent = b"".join(frames)
        return Chunk(sent or None, answer.usage, answer.choice is not None, is_finish)

    def _begin(self) -> list[bytes]:
        begun = self._response.begun()
        return [
            self._event("response.created", response=begun),
            self._event("response.in_progress", response=begun),
        ]

    def _add(self, choice: Choice) -> list[bytes]:
        frames: list[bytes] = []
        for item, text in _text_items(choice.delta):
            if self._open is None or self._open.part != item.part:
                frames += self._close_open()
                frames += self._open_item(item)
                self._open = item
            frames.append(self._text_delta(self._open, text, choice.logprobs))
        for call in choice.delta.tool_calls or []:
            made = self._calls.get(call.index)
            if made is None:
                made = self._calls[call.index] = _call_item(call)
                frames += self._close_open()
                frames += self._open_item(made)
            if call.function.arguments:
                made.add(call.function.arguments)
                name = "response.function_call_arguments.delta"
                frames.append(self._item_event(name, made, delta=call.function.arguments))
        return frames

    def _open_item(self, item: _Item) -> list[bytes]:
        item.index = len(self._items)
        self._items.append(item)
        begun = item.begun()
        name = "response.output_item.added"
        frames = [self._event(name, output_index=item.index, item=begun)]
        if item.part:
            part = item.content(is_done=False)
            name = "response.content_part.added"
            frames.append(self._item_event(name, item, content_index=0, part=part))
        return frames

    def _text_delta(self, item: _Item, text: str, logprobs: object) -> bytes:
        name = f"response.{item.part}.delta"
        if item.part != "output_text":
            item.add(text)
            return self._item_event(name, item, content_index=0, delta=text)
        told = item.add(text, logprobs)
        return self._item_event(name, item, content_index=0, delta=text, logprobs=told)

    def _close_open(self, status: str = "completed") -> list[bytes]:
        item, self._open = self._open, None
        if item is None:
            return []
        part = item.content(is_done=True)
        told = {k: v for k, v in part.items() if k not in {"type", "annotations"}}
        return [
            self._item_event(f"response.{item.part}.done", item, content_index=0, **told),
            self._item_event("response.content_part.done", item, content_index=0, part=part),
            self._item_done(item, status),
        ]

    def _item_done(self, item: _Item, status: str) -> bytes:
        done = self._done[item.index] = item.done(status)
        return self._event("response.output_item.done", output_index=item.index, item=done)

    def end(self) -> bytes:
        """Close what is open, in order, and finish the response."""
        frames = self._begin() if self._next_number == 0 else []
        is_cut = self._finish_reason in _INCOMPLETE
        frames += self._close_open("incomplete" if is_cut else "completed")
        for call in self._calls.values():
            name, arguments = "response.function_call_arguments.done", call.text
            frames.append(self._item_event(name, call, arguments=arguments, name=call.head["name"]))
            frames.append(self._item_done(call, "completed"))
        told = self._last_usage
        usage = None if told is None else _usage_object(told, self._price)
        items = [self._done[index] for index in sorted(self._done)]
        response = self._response.finished(items, self._finish_reason, usage)
        frames.append(self._event(f"response.{response['status']}", response=response))
        return b"".join(frames)

    def error_event(self, error: GatewayError) -> bytes:
        return error_event(error, self._next_number)

    def _item_event(self, kind: str, item: _Item, **fields: object) -> bytes:
        return self._event(kind, item_id=item.head["id"], output_index=item.index, **fields)

    def _event(self, kind: str, **fields: object) -> bytes:
        number = self._next_number
        self._next_number += 1
        return encode_named_event({"type": kind, "sequence_number": number, **fields})
