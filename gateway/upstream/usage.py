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
