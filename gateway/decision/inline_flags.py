"""Tryage's flags inside a prompt: ``[Flag: smallest model]`` in the user's last message.

Whoever can write into a prompt could route with them, so they are read only where the key permits
it; then no model sees them. (Tryage, arXiv 2308.11601, §3: "flags" that a user appends.)
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from gateway.decision.flag_fields import HEADER_PREFIX, FlagError, RoutingFields, read_headers
from gateway.decision.request import ParsedRequest
from gateway.errors import quoted

_FLAG = re.compile(r"[ \t]*\[\s*flag\s*:\s*([^\[\]\n]{1,200})\][ \t]*", re.IGNORECASE)
_MARK = re.compile(rb"\[\s*flag\s*:", re.IGNORECASE)
#: Where each endpoint has its prompt.
_PROMPT_FIELDS = ("messages", "input", "prompt")
_TEXT_PARTS = ("text", "input_text")

#: Words for each profile, as people write them; "model" and "answer" after them mean nothing.
_PROFILE_WORDS = {
    "best": ("best", "most accurate", "highest quality", "most capable"),
    "balanced": ("balanced",),
    "cheap": ("cheap", "cheaper", "cheapest", "low cost", "lowest cost"),
    "fast": ("fast", "faster", "fastest", "quickest", "low latency", "lowest latency"),
    "small": ("small", "smaller", "smallest"),
    "fresh": ("fresh", "recent", "most recent", "newest", "latest"),
    "secure": ("secure", "most secure", "safest"),
    "concise": ("concise", "most concise", "brief", "shortest"),
    "readable": ("readable", "most readable", "easiest to read"),
}
_PROFILES = {word: profile for profile, words in _PROFILE_WORDS.items() for word in words}
_TAIL = re.compile(r"\s+(model|models|answer|answers)$")


def take_inline_flags(request: ParsedRequest) -> tuple[ParsedRequest, RoutingFields]:
    """Read the flags in the user's last message, and return the request without them.

    A flag is a word for a profile, or ``name=value`` with the name of a routing header's twin, as
    in ``[Flag: max_cost_usd=0.01]``; of two that disagree the later one holds.
    Raises FlagError for ``messages``, ``input`` or ``prompt`` when one cannot be understood.
    """
    for name in _PROMPT_FIELDS:
        raw = request.fields.get(name)
        if raw is None or _MARK.search(raw) is None:
            continue
        found: list[str] = []
        prompt = _without_flags(msgspec.json.decode(raw), found)
        if not found:
            break
        fields = {**request.fields, name: msgspec.Raw(msgspec.json.encode(prompt))}
        layer: dict[str, Any] = {}
        for flag in found:
            layer.update(_read(flag, name))
        clean = msgspec.structs.replace(
            request, fields=fields, prompt=request.endpoint.read_prompt(fields)
        )
        return clean, cast("RoutingFields", layer)
    return request, {}


def _without_flags(prompt: Any, found: list[str]) -> Any:
    """A prompt in any wire shape without its flags, which are added to ``found``."""
    if isinstance(prompt, str):
        return _strip(prompt, found)
    if not isinstance(prompt, list):
        return prompt
    for place in reversed(range(len(prompt))):
        message = prompt[place]
        if isinstance(message, dict) and message.get("role") == "user":
            content = _from_content(message.get("content"), found)
            return [*prompt[:place], {**message, "content": content}, *prompt[place + 1 :]]
    return prompt


def _from_content(content: Any, found: list[str]) -> Any:
    if isinstance(content, str):
        return _strip(content, found)
    if not isinstance(content, list):
        return content
    return [
        {**part, "text": _strip(part["text"], found)}
        if isinstance(part, dict)
        and part.get("type") in _TEXT_PARTS
        and isinstance(part.get("text"), str)
        else part
        for part in content
    ]


def _strip(text: str, found: list[str]) -> str:
    def take(flag: re.Match[str]) -> str:
        found.append(flag[1].strip())
        is_inside = flag.start() > 0 and flag.end() < len(text) and text[flag.end()] != "\n"
        return " " if is_inside and text[flag.start() - 1] != "\n" else ""

    return _FLAG.sub(take, text)


def _read(flag: str, field: str) -> RoutingFields:
    words = " ".join(flag.lower().split())
    profile = _PROFILES.get(_TAIL.sub("", words))
    if profile is not None:
        return {"objective": profile}
    name, equals, value = flag.partition("=")
    if equals:
        header = HEADER_PREFIX + "-".join(name.lower().replace("_", " ").replace("-", " ").split())
        try:
            return read_headers({header: value.strip()})
        except FlagError as error:
            raise FlagError(field, f"holds [Flag: {_shown(flag)}]: {error}") from error
    examples = "[Flag: smallest model], [Flag: max_cost_usd=0.01]"
    raise FlagError(field, f"holds [Flag: {_shown(flag)}], which is not known; try {examples}")


def _shown(flag: str) -> str:
    return quoted(flag).strip("'\"")
