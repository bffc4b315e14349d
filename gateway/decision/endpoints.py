"""The routes of the data path: how each is read, asked at a backend, and worded when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gateway.decision.prompts import (
    PromptPart,
    RawFields,
    read_anthropic_messages,
    read_anthropic_prompt,
    read_chat,
    read_completion_prompt,
    read_embedding_input,
    read_responses_input,
)
from gateway.errors import GatewayError
from gateway.upstream.wires import messages_request, responses_request
from gateway.upstream.wires.fields import decode_field, expect
from gateway.upstream.wires.messages import CountTokensWire, MessagesWire
from gateway.upstream.wires.messages import error_body as messages_error_body
from gateway.upstream.wires.messages_over_chat import MessagesOverChat
from gateway.upstream.wires.openai import ChatWire, EmbeddingsWire
from gateway.upstream.wires.responses import ResponsesWire
from gateway.upstream.wires.responses_over_chat import ResponsesOverChat
from gateway.upstream.wires.wire import Wire


class Endpoint(msgspec.Struct, frozen=True):
    """One route of the data path; ``path`` is the same at a backend that speaks it."""

    #: As the configuration spells it in ``endpoints``.
    name: str
    path: str
    read_prompt: Callable[[RawFields], PromptPart]
    wire: Callable[[PromptPart], Wire]
    #: The same request in chat's words, for backends that only chat.
    over_chat: Callable[[RawFields], tuple[Wire, RawFields]] | None = None
    #: Fields that bound the answer's tokens, the first one given wins; none where no text is made.
    limits: tuple[str, ...] = ("max_completion_tokens", "max_tokens")
    #: Whether ``stream_options`` tells a stream to end with its usage.
    has_stream_options: bool = False
    #: Whether a model's words are asked for; what else is asked of models is theirs alone to say.
    makes_text: bool = True
    #: Where no text is made: why no other model can stand in.
    incomparable: str = ""
    #: The model of a request that names none, where the API lets it.
    model_unless_named: str | None = None
    #: Request headers that belong to the API itself, with what a backend gets when they are missing.
    headers: Mapping[str, str] = {}
    error_body: Callable[[GatewayError], bytes] = GatewayError.body


def _responses_over_chat(fields: RawFields) -> tuple[Wire, RawFields]:
    return ResponsesOverChat(fields), responses_request.chat_fields(fields)


def _messages_over_chat(fields: RawFields) -> tuple[Wire, RawFields]:
    chat = messages_request.chat_fields(fields)
    stops = expect(decode_field(fields, "stop_sequences") or [], list, "stop_sequences")
    return MessagesOverChat(tuple(stops)), chat


CHAT_WIRE = ChatWire("/chat/completions")
_COMPLETIONS_WIRE = ChatWire("/completions")
_RESPONSES_WIRE = ResponsesWire()
_MESSAGES_WIRE = MessagesWire()
_COUNT_WIRE = CountTokensWire()
_ANTHROPIC_HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": ""}

CHAT = Endpoint(
    "chat", "/chat/completions", read_chat, lambda _: CHAT_WIRE, has_stream_options=True
)
COMPLETIONS = Endpoint(
    "completions",
    "/completions",
    read_completion_prompt,
    lambda _: _COMPLETIONS_WIRE,
    has_stream_options=True,
)
EMBEDDINGS = Endpoint(
    "embeddings",
    "/embeddings",
    read_embedding_input,
    lambda prompt: EmbeddingsWire("/embeddings", prompt.inputs),
    limits=(),
    makes_text=False,
    incomparable="vectors of different models cannot be compared",
)
RESPONSES = Endpoint(
    "responses",
    "/responses",
    read_responses_input,
    lambda _: _RESPONSES_WIRE,
    over_chat=_responses_over_chat,
    limits=("max_output_tokens",),
    model_unless_named="auto",
)
MESSAGES = Endpoint(
    "messages",
    "/messages",
    read_anthropic_messages,
    lambda _: _MESSAGES_WIRE,
    over_chat=_messages_over_chat,
    limits=("max_tokens",),
    headers=_ANTHROPIC_HEADERS,
    error_body=messages_error_body,
)
#: Anthropic's count of a request's tokens, by the tokenizer of the model that would answer it.
COUNT_TOKENS = Endpoint(
    "count_tokens",
    "/messages/count_tokens",
    read_anthropic_prompt,
    lambda _: _COUNT_WIRE,
    limits=(),
    makes_text=False,
    incomparable="models count tokens differently",
    headers=_ANTHROPIC_HEADERS,
    error_body=messages_error_body,
)
ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS)
