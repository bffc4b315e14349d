"""What a backend's chat answer says, read for those who asked in another shape."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gateway.errors import UNREADABLE_JSON, BadUpstreamAnswer
from gateway.upstream.answers import read_refusal
from gateway.upstream.sse import DONE
from gateway.upstream.usage import TokenUsage, read_usage

PATH = "/chat/completions"
_NULL = b"null"
_Index = Annotated[int, msgspec.Meta(ge=0, le=4096)]


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    index: _Index = 0
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class Message(msgspec.Struct):
    """A whole message, or what a chunk adds to it."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    #: vLLM's newer name of the same.
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str:
        return self.reasoning_content or self.reasoning or ""


class Choice(msgspec.Struct):
    message: Message = msgspec.field(default_factory=Message)
    delta: Message = msgspec.field(default_factory=Message)
    finish_reason: str | None = None
    #: vLLM: the stop string that was met, or a token's id.
    stop_reason: str | int | None = None
    logprobs: Any = None


class _Document(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(_NULL)
    error: msgspec.Raw = msgspec.Raw(_NULL)


class ChatAnswer(msgspec.Struct, frozen=True):
    """``choice`` is None in a chunk that carries usage alone."""

    choice: Choice | None
    usage: TokenUsage | None
    reasoning_tokens: int


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = 0


class _DetailedUsage(msgspec.Struct):
    completion_tokens_details: _OutputDetails | None = None


_documents = msgspec.json.Decoder(_Document)
_detailed = msgspec.json.Decoder(_DetailedUsage)


def read_chat(data: bytes) -> ChatAnswer:
    """Read a whole answer or one chunk of a stream.

    Raises BadUpstreamAnswer when it is neither, BackendRefused when it is an error.
    """
    try:
        document = _documents.decode(data)
    except UNREADABLE_JSON as error:
        raise BadUpstreamAnswer("the backend sent what is not a chat answer") from error
    if bytes(document.error) != _NULL:
        raise read_refusal(None, data)
    choices = document.choices or []
    has_usage = bytes(document.usage) != _NULL
    return ChatAnswer(
        choices[0] if choices else None,
        read_usage(document.usage) if has_usage else None,
        _reasoning_tokens(document.usage) if has_usage else 0,
    )


def read_whole_chat(body: bytes) -> tuple[Choice, ChatAnswer]:
    """Read a whole answer and its only choice. Raises what ``read_chat`` does."""
    answer = read_chat(body)
    if answer.choice is None:
        raise BadUpstreamAnswer("the backend's answer holds no choice")
    return answer.choice, answer


def check_first_chunk(data: bytes) -> None:
    """Raise for what does not begin a chat stream."""
    if data != DONE:
        read_chat(data)


def _reasoning_tokens(usage: msgspec.Raw) -> int:
    try:
        details = _detailed.decode(usage).completion_tokens_details
    except UNREADABLE_JSON:
        return 0
    return 0 if details is None else details.reasoning_tokens or 0
