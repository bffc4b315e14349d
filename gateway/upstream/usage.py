"""Token counts as backends report them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.errors import UNREADABLE_JSON

# A count below zero would pay the caller, one without end has no price.
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class _PromptDetails(msgspec.Struct):
    cached_tokens: _Count | None = 0


class _Usage(msgspec.Struct):
    prompt_tokens: _Count | None = 0
    completion_tokens: _Count | None = 0
    prompt_tokens_details: _PromptDetails | None = None


class TokenUsage(msgspec.Struct, frozen=True):
    """``is_estimated`` when the backend did not say and the gateway counted what it could see."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    is_estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


#: Of an answer that did not say.
NOTHING_TOLD = TokenUsage(is_estimated=True)

_decoder = msgspec.json.Decoder(_Usage)


def read_usage(raw: msgspec.Raw | bytes) -> TokenUsage | None:
    """Read a backend's ``usage`` object; None when it is not one."""
    try:
        usage = _decoder.decode(raw)
    except UNREADABLE_JSON:
        return None
    details = usage.prompt_tokens_details
    prompt_tokens = usage.prompt_tokens or 0
    cached_tokens = (details.cached_tokens or 0) if details is not None else 0
    return TokenUsage(
        prompt_tokens=prompt_tokens,
        cached_tokens=min(cached_tokens, prompt_tokens),
        completion_tokens=usage.completion_tokens or 0,
    )


_counts = msgspec.json.Decoder(dict[str, msgspec.Raw])


def with_cost(raw: msgspec.Raw, cost_usd: float | None) -> msgspec.Raw:
    """Return a ``usage`` object with its cost; as it is when there is none or it is no object."""
    if cost_usd is None:
        return raw
    try:
        counts = _counts.decode(raw)
    except UNREADABLE_JSON:
        return raw
    counts["cost"] = msgspec.Raw(msgspec.json.encode(cost_usd))
    return msgspec.Raw(msgspec.json.encode(counts))


class _InputOutput(msgspec.Struct):
    input_tokens: _Count | None = 0
    output_tokens: _Count | None = 0
    input_tokens_details: _PromptDetails | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None


_input_output = msgspec.json.Decoder(_InputOutput)


def read_input_output_usage(raw: msgspec.Raw | bytes) -> TokenUsage | None:
    """Read ``usage`` as Responses and Messages spell it; None when it is not one.

    Responses count cached tokens among the input, Messages beside it.
    """
    try:
        usage = _input_output.decode(raw)
    except UNREADABLE_JSON:
        return None
    read = usage.cache_read_input_tokens or 0
    details = usage.input_tokens_details
    cached_tokens = read if details is None else details.cached_tokens or 0
    beside = read + (usage.cache_creation_input_tokens or 0)
    prompt_tokens = (usage.input_tokens or 0) + beside
    return TokenUsage(
        prompt_tokens=prompt_tokens,
        cached_tokens=min(cached_tokens, prompt_tokens),
        completion_tokens=usage.output_tokens or 0,
    )
