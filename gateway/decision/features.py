"""From a request's body to what routing needs to know of it. The body itself is never changed here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from policies.types import Needs
from router_models.prompt_text import ask_of

#: Characters per token of English text; good enough to price a prompt before it is tokenised.
CHARS_PER_TOKEN = 4
#: Where chat, responses and messages say in which form an answer must come.
_FORMAT_FIELDS = ("response_format", "text", "output_config")
# Compared, not hashed: the type of a part may be any JSON value.
_TOOL_ROLES = ("tool", "function")
_IMAGE_PARTS = ("image_url", "input_image", "image")


class PromptFeatures(msgspec.Struct, frozen=True):
    """``ask`` is the human's question, ``prompt_tokens`` an estimate for everything that is sent.

    ``loop`` names the loop of tool calls that a request may be part of, ``is_tool_turn`` says that
    it brings a tool's result.
    """

    ask: str
    prompt_tokens: int
    max_output_tokens: int | None
    needs: Needs
    loop: str | None = None
    is_tool_turn: bool = False


def featurise(
    prompt: str | Sequence[Mapping[str, object]],
    prompt_bytes: int,
    fields: Mapping[str, msgspec.Raw],
    max_output_tokens: int | None,
    longest_bytes: int | None = None,
) -> PromptFeatures:
    """Read a prompt (text or chat messages) and the request's fields.

    ``prompt_bytes`` is the prompt's size on the wire; ``fields`` are the raw top-level fields;
    ``longest_bytes`` is what one context must hold, where that is less than the whole prompt.
    """
    prompt_tokens = prompt_bytes // CHARS_PER_TOKEN + 1
    longest = prompt_bytes if longest_bytes is None else longest_bytes
    needs = Needs(
        context_tokens=longest // CHARS_PER_TOKEN + 1 + (max_output_tokens or 0),
        capabilities=_capabilities(prompt, fields),
    )
    ask = ask_of(prompt)
    if "tools" not in needs.capabilities or isinstance(prompt, str):
        return PromptFeatures(ask, prompt_tokens, max_output_tokens, needs)
    return PromptFeatures(
        ask, prompt_tokens, max_output_tokens, needs, _loop(prompt, ask), _is_tool_turn(prompt[-1])
    )


def _loop(messages: Sequence[Mapping[str, object]], ask: str) -> str:
    """A name that every turn of one loop shares, and as good as no other conversation."""
    beginning = repr(messages[0].get("content"))
    return hashlib.blake2b(
        f"{beginning}\0{ask}".encode("utf-8", "replace"), digest_size=16
    ).hexdigest()


def _is_tool_turn(message: Mapping[str, object]) -> bool:
    if message.get("role") in _TOOL_ROLES:
        return True
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )


def _capabilities(
    prompt: str | Sequence[Mapping[str, object]], fields: Mapping[str, msgspec.Raw]
) -> frozenset[str]:
    needed = set()
    if bytes(fields.get("tools", b"[]")) not in {b"[]", b"null"}:
        needed.add("tools")
    if any(b"json_schema" in bytes(fields.get(name, b"")) for name in _FORMAT_FIELDS):
        needed.add("json_schema")
    if bytes(fields.get("logprobs", b"null")) not in {b"null", b"false"}:
        needed.add("logprobs")
    if not isinstance(prompt, str) and any(_has_image(message) for message in prompt):
        needed.add("vision")
    return frozenset(needed)


def _has_image(message: Mapping[str, object]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") in _IMAGE_PARTS for part in content
    )
