"""The human's ask inside a prompt, and the bounded part of it that is read.

It never changes a prompt: what is forwarded to a model is not its business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

#: Characters that are read of a long text. What it asks stands at its start or at its end.
HEAD_CHARS = 6_000
TAIL_CHARS = 2_000

# Compared, not hashed: the type of a part may be any JSON value.
_TEXT_PARTS = ("text", "input_text", None)


def ask_of(prompt: str | Sequence[Mapping[str, object]]) -> str:
    """Return the human's ask: the text of the last user message that carries any.

    ``prompt`` is a text, or chat messages as OpenAI spells them, whose content is a string or a
    list of parts. Tool results, images and blank messages are passed over. Without any such
    message it is the last text of whatever role, and without any text the empty string.
    """
    if isinstance(prompt, str):
        return prompt
    fallback = ""
    for message in reversed(prompt):
        if not isinstance(message, Mapping):
            continue
        text = "\n".join(_texts(message.get("content")))
        if not text.strip():
            continue
        if message.get("role") == "user":
            return text
        fallback = fallback or text
    return fallback


def ask_of_cell(cell: str) -> str:
    """Return the ask of a table's cell: a text, or a JSON list of chat messages."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return cell
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError):
        return cell
    is_chat = bool(messages) and all(isinstance(m, dict) and "role" in m for m in messages)
    return ask_of(messages) if is_chat else cell


def clip(text: str) -> str:
    """Keep the head and the tail of a long text: reading it then costs the same at any length."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict) and part.get("type") in _TEXT_PARTS:
                text = part.get("text")
                if isinstance(text, str):
                    yield text
