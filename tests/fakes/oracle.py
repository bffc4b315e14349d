"""A backend that answers every API well: whole or streamed, whatever is asked."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.backend import (
    DONE,
    END_OF_STREAM,
    STREAM_HEAD,
    USAGE,
    Connection,
    chunked,
    event,
    json_answer,
    model_object,
)

_WORDS = ("Hello", ", ", "world")
_NATIVE_USAGE = {"input_tokens": 10, "output_tokens": 2}


def _named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _chat(_: dict[str, Any]) -> object:
    message = {"role": "assistant", "content": "".join(_WORDS), "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served-name",
        "choices": [choice],
        "usage": USAGE,
    }


def _completion(_: dict[str, Any]) -> object:
    choice = {"index": 0, "finish_reason": "stop", "text": "".join(_WORDS), "logprobs": None}
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "served-name",
        "choices": [choice],
        "usage": USAGE,
    }


def _embeddings(body: dict[str, Any]) -> object:
    given = body["input"]
    is_batch = isinstance(given, list) and not isinstance(given[0], int)
    data = [
        {"object": "embedding", "index": i, "embedding": [0.5, 0.25]}
        for i in range(len(given) if is_batch else 1)
    ]
    usage = {"prompt_tokens": 10, "total_tokens": 10}
    return {"object": "list", "model": "served-name", "data": data, "usage": usage}


def _response(_: dict[str, Any]) -> dict[str, Any]:
    content = [{"type": "output_text", "text": "".join(_WORDS), "annotations": []}]
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    details = {
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "served-name",
        "output": [{**item, "content": content}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {**_NATIVE_USAGE, "total_tokens": 12, **details},
    }


def _message(_: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served-name",
        "content": [{"type": "text", "text": "".join(_WORDS)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _NATIVE_USAGE,
    }


_WHOLE = {
    "/chat/completions": _chat,
    "/completions": _completion,
    "/embeddings": _embeddings,
    "/responses": _response,
    "/messages": _message,
}


def _chat_events() -> list[bytes]:
    words = [event(word) for word in _WORDS]
    return [*words, event("", finish="stop"), event(usage=USAGE), DONE]


def _completion_events() -> list[bytes]:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "served-name"}
    events = []
    for index, word in enumerate(_WORDS):
        reason = "stop" if index == len(_WORDS) - 1 else None
        choice = {"index": 0, "text": word, "finish_reason": reason}
        events.append(b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n")
    return [*events, event(usage=USAGE), DONE]


def _response_events() -> list[bytes]:
    response = _response({})
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    deltas = [
        _named("response.output_text.delta", delta=word, output_index=0, content_index=0)
        for word in _WORDS
    ]
    return [
        _named("response.created", response=begun),
        *deltas,
        _named("response.completed", response=response),
    ]


def _message_events() -> list[bytes]:
    begun = {**_message({}), "content": [], "stop_reason": None}
    deltas = [
        _named("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
        for word in _WORDS
    ]
    return [
        _named("message_start", message=begun),
        _named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *deltas,
        _named("content_block_stop", index=0),
        _named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
        _named("message_stop"),
    ]


_STREAMED = {
    "/chat/completions": _chat_events,
    "/completions": _completion_events,
    "/responses": _response_events,
    "/messages": _message_events,
}


def events_of(path: str) -> list[bytes]:
    """The events of a whole stream of the API at ``path``, such as ``/v1/chat/completions``."""
    return _STREAMED[path.removeprefix("/v1")]()


async def answers_well(connection: Connection) -> None:
    """Answer whatever was asked; 404 where no API is served."""
    request = connection.request
    path = request.path.removeprefix("/v1").partition("?")[0]
    if path.startswith("/models/"):
        await connection.write(json_answer(model_object(path.removeprefix("/models/"))))
    elif path not in _WHOLE:
        error = {"message": "no such route", "type": "invalid_request_error"}
        await connection.write(json_answer({"error": error}, 404))
    elif request.body.get("stream") is True and path in _STREAMED:
        await connection.write(STREAM_HEAD + chunked(*events_of(path)) + END_OF_STREAM)
    else:
        await connection.write(json_answer(_WHOLE[path](request.body)))
