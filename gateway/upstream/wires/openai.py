"""Chat, completions and embeddings: what nearly every backend speaks, passed on all but unread."""

from __future__ import annotations

import msgspec

from gateway.errors import UNREADABLE_JSON, BadUpstreamAnswer, GatewayError
from gateway.upstream.answers import (
    LAST,
    Chunk,
    Pricer,
    check_answer,
    check_first_event,
    restamp_answer,
    restamp_chunk,
)
from gateway.upstream.sse import DONE, encode_event
from gateway.upstream.usage import TokenUsage


def error_event(error: GatewayError) -> bytes:
    """OpenAI's error object as the last event of a chat or completion stream."""
    return encode_event(error.body())


class ChatReader(msgspec.Struct, frozen=True):
    """Chunks pass as they are, ``[DONE]`` ends them."""

    model: str
    price: Pricer
    wants_usage: bool

    def take(self, data: bytes) -> Chunk:
        if data == DONE:
            return LAST
        return restamp_chunk(data, self.model, wants_usage=self.wants_usage, price=self.price)

    def end(self) -> bytes:
        return encode_event(DONE)

    def error_event(self, error: GatewayError) -> bytes:
        return error_event(error)


class ChatWire(msgspec.Struct, frozen=True):
    """Chat and text completions differ in their path alone."""

    path: str

    def check_answer(self, body: bytes) -> None:
        check_answer(body)

    def check_first_event(self, data: bytes) -> None:
        check_first_event(data)

    def restamp(self, body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
        return restamp_answer(body, model, price)

    def reader(self, model: str, price: Pricer, *, wants_usage: bool) -> ChatReader:
        return ChatReader(model, price, wants_usage)


class _Vectors(msgspec.Struct):
    data: list[msgspec.Raw]


_vectors = msgspec.json.Decoder(_Vectors)


class EmbeddingsWire(ChatWire, frozen=True):
    """An answer must hold one vector for each of ``inputs``."""

    inputs: int

    def check_answer(self, body: bytes) -> None:
        check_answer(body)
        try:
            count = len(_vectors.decode(body).data)
        except UNREADABLE_JSON as error:
            raise BadUpstreamAnswer("the backend's answer holds no list of embeddings") from error
        if count != self.inputs:
            raise BadUpstreamAnswer(
                f"the backend answered {count} embeddings for {self.inputs} inputs"
            )
