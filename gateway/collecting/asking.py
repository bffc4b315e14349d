"""Ask a model outside the traffic: an answer, or how likely it finds a reference."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.decision.catalog import CatalogModel
from gateway.errors import (
    UNREADABLE_JSON,
    BackendRefused,
    BadUpstreamAnswer,
    StaleConnection,
    UpstreamError,
)
from gateway.settings import Timeouts
from gateway.upstream.answers import read_refusal, read_retry_after
from gateway.upstream.backend import BackendHandle
from gateway.upstream.deadlines import Deadlines

#: Tries of one question, each at the model's next backend.
TRIES = 4
#: Wait before the second try; it doubles with each.
FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
_MAX_ANSWER_BYTES = 64 * 2**20


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Token(msgspec.Struct):
    logprob: float


class _Chat(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    #: vLLM's: for every token of the prompt but the first, the likely ones and itself by their ids.
    prompt_logprobs: list[dict[str, _Token] | None] | None = None


_decoder = msgspec.json.Decoder(_Chat)
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer's text and what was counted; None where the backend does not say."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class Surprise:
    """Mean loss of a reference, nats per token, over how many ``tokens``, after the prompt's."""

    loss: float
    tokens: int
    prompt_tokens: int


class Asker:
    """Asks models one after the other's backend, patiently: collecting is in no hurry."""

    def __init__(self, timeouts: Timeouts, *, wait_s: float = FIRST_WAIT_S) -> None:
        self._deadlines = Deadlines(timeouts.connect_s, timeouts.answer_s)
        self._total_s = timeouts.total_s
        self._wait_s = wait_s
        self._turn = itertools.count()

    async def answer(
        self, model: CatalogModel, messages: Messages, max_tokens: int, temperature: float
    ) -> Said:
        """Ask for an answer. Raises UpstreamError when none of the tries brings one."""
        chat = await self._ask(
            model, {"messages": messages, "max_tokens": max_tokens, "temperature": temperature}
        )
        usage = chat.usage or _Usage()
        return Said(
            chat.choices[0].message.content or "", usage.prompt_tokens, usage.completion_tokens
        )

    async def surprise(self, model: CatalogModel, messages: Messages, reference: str) -> Surprise:
        """How likely a model finds a reference as its answer (vLLM's ``prompt_logprobs``).

        The prompt alone tells where the reference begins. Raises UpstreamError, also for a backend
        that shows no log-probabilities of a prompt.
        """
        counted = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        alone = _shown(await self._ask(model, {"messages": messages, **counted}))
        whole = await self._ask(
            model,
            {
                "messages": [*messages, {"role": "assistant", "content": reference}],
                "add_generation_prompt": False,
                "continue_final_message": True,
                **counted,
            },
        )
        tokens = _shown(whole)[len(alone) :]
        if not tokens:
            raise BadUpstreamAnswer("the reference has no token of its own")
        # With 0 alternatives asked for, what is listed is the prompt's own token.
        losses = [-next(iter(token.values())).logprob for token in tokens if token]
        return Surprise(max(sum(losses) / len(losses), 0.0), len(losses), len(alone))

    async def _ask(self, model: CatalogModel, fields: Mapping[str, Any]) -> _Chat:
        first = next(self._turn)
        wait_s = self._wait_s
        for attempt in itertools.count(1):
            backend = model.backends[(first + attempt) % len(model.backends)]
            try:
                async with asyncio.timeout(self._total_s):
                    return await self._ask_once(backend, fields)
            except TimeoutError as error:
                failure: UpstreamError = BadUpstreamAnswer("the answer took too long")
                failure.__cause__ = error
            except UpstreamError as error:
                failure = error
            if attempt == TRIES or not failure.tries_elsewhere:
                raise failure
            await asyncio.sleep(min(max(wait_s, failure.retry_after_s or 0), _LONGEST_WAIT_S))
            wait_s *= 2
        raise AssertionError("the tries are counted")

    async def _ask_once(self, backend: BackendHandle, fields: Mapping[str, Any]) -> _Chat:
        body = msgspec.json.encode(
            {"model": backend.served_model, **fields, **backend.extra_fields}
        )
        open_ = backend.transport.open
        try:
            response = await open_("POST", "/chat/completions", {}, body, self._deadlines)
        except StaleConnection:  # a fresh one is as good as the first try
            response = await open_("POST", "/chat/completions", {}, body, self._deadlines)
        content = bytearray()
        try:
            while piece := await response.read(self._deadlines.first_byte_s):
                content += piece
                if len(content) > _MAX_ANSWER_BYTES:
                    raise BadUpstreamAnswer("the backend's answer is too long")
        finally:
            await response.close()
        if response.status != 200:
            refusal: BackendRefused = read_refusal(response.status, bytes(content))
            refusal.retry_after_s = read_retry_after(response.headers)
            raise refusal
        try:
            chat = _decoder.decode(bytes(content))
        except UNREADABLE_JSON as error:
            raise BadUpstreamAnswer("the backend's answer is no chat completion") from error
        if not chat.choices:
            raise BadUpstreamAnswer("the backend's answer has no choices")
        return chat


def _shown(chat: _Chat) -> list[dict[str, _Token] | None]:
    if not chat.prompt_logprobs:
        error = BadUpstreamAnswer(
            "this backend shows no log-probabilities of a prompt; vLLM does, by prompt_logprobs"
        )
        error.tries_elsewhere = False
        raise error
    return chat.prompt_logprobs
