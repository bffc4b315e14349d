"""How readable a model's answers were, measured on some of them.

Flesch's reading ease (Flesch 1948, J. Applied Psychology 32), a hundredth of it, within [0, 1]:
``206.835 - 1.015 · words per sentence - 84.6 · syllables per word``. Made for English prose; code
and other languages are not comparable with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from gateway.errors import UNREADABLE_JSON

#: One answer in so many is measured, and one in so many once the memory is full of newer ones.
EVERY = 16
EVERY_LATER = 256
#: What is read of an answer, in characters, and of a stream, in bytes.
MAX_CHARS = 4_000
MAX_STREAM_BYTES = 64_000
#: An answer shorter than this says nothing of style.
MIN_WORDS = 20
#: As many answers as a configured value counts for, and as the memory goes back.
PRIOR_ANSWERS = 8
MEMORY_ANSWERS = 200

_WORD = re.compile(r"[a-z']+")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|\n{2,}|\n(?=\s*[-*\d])")
_VOWELS = re.compile(r"[aeiouy]+")
_CODE = re.compile(r"```.*?(```|$)", re.DOTALL)


def reading_ease(text: str) -> float | None:
    """Readability of a text in [0, 1]; None when it is too short to tell."""
    prose = _CODE.sub(" ", text[:MAX_CHARS]).lower()
    words = _WORD.findall(prose)
    if len(words) < MIN_WORDS:
        return None
    sentences = max(1, len(_SENTENCE_END.findall(prose.strip())))
    syllables = sum(map(_syllables, words))
    ease = 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)
    return min(1.0, max(0.0, ease / 100))


def _syllables(word: str) -> int:
    """Groups of vowels, without a silent e at the end."""
    groups = len(_VOWELS.findall(word))
    if word.endswith("e") and not word.endswith("le") and groups > 1:
        groups -= 1
    return max(1, groups)


class Readability:
    """One model's: what the configuration declares and what its answers showed, as one number."""

    __slots__ = ("_mean", "_until_next", "_weight")

    def __init__(self, declared: float | None) -> None:
        self._mean = declared or 0.0
        self._weight = 0 if declared is None else PRIOR_ANSWERS
        self._until_next = 0

    @property
    def value(self) -> float | None:
        """None as long as nothing is declared and too little was measured."""
        return self._mean if self._weight >= PRIOR_ANSWERS else None

    def wants_answer(self) -> bool:
        """Whether the answer that now begins is one to measure."""
        if self._until_next:
            self._until_next -= 1
            return False
        self._until_next = (EVERY if self._weight < MEMORY_ANSWERS else EVERY_LATER) - 1
        return True

    def note(self, text: str) -> None:
        """Take an answer."""
        ease = reading_ease(text)
        if ease is None:
            return
        self._weight = min(self._weight + 1, MEMORY_ANSWERS)
        self._mean += (ease - self._mean) / self._weight


class _Words(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Words | None = None
    delta: _Words | None = None
    text: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_answers = msgspec.json.Decoder(_Answer)


def text_of_answer(body: bytes) -> str:
    """The words of a whole chat or completion answer; "" for any other."""
    return "".join(_words(body))


def text_of_stream(sent: bytes) -> str:
    """The words of what was sent of a chat or completion stream; "" for any other."""
    events = (line[6:] for line in sent.split(b"\n") if line.startswith(b"data: {"))
    return "".join(word for event in events for word in _words(event))


class Sink(Protocol):
    @property
    def takes_chunks(self) -> bool: ...

    def write(self, data: bytes) -> bool: ...

    def write_chunk(self, data: bytes) -> bool: ...

    async def drain(self) -> None: ...


class Sample:
    """Passes a stream on and keeps its beginning, to be measured when it has ended."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.sent = bytearray()

    @property
    def takes_chunks(self) -> bool:
        return self._sink.takes_chunks

    def write(self, data: bytes) -> bool:
        self._keep(data)
        return self._sink.write(data)

    def write_chunk(self, data: bytes) -> bool:
        self._keep(data)
        return self._sink.write_chunk(data)

    def _keep(self, data: bytes) -> None:
        if len(self.sent) < MAX_STREAM_BYTES:
            self.sent += data

    async def drain(self) -> None:
        await self._sink.drain()


def _words(body: bytes) -> Iterator[str]:
    try:
        answer: Any = _answers.decode(body)
    except UNREADABLE_JSON:
        return
    for choice in answer.choices[:1]:
        said = choice.message or choice.delta
        text = choice.text if said is None else said.content
        if text:
            yield text
