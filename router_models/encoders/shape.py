"""Numbers about a text that no word carries: its length, its sentences, its arithmetic, its names.

How hard a prompt is shows in them: on GSM8K they tell more than its words do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from operator import add
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_models.encoders.tails import pieces_of
from router_models.prompt_text import clip

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_PHRASE_END = re.compile(r"[.!?\n]")
#: A capital first, so that the search skips to it; then what must not stand before it.
_CAPITALISED = re.compile(r"[A-Z](?<!\w[A-Z])[a-z]+")
_LOWER_WORD = re.compile(r"\b[a-z]+\b")
_QUANTITIES = (
    "half twice double triple third quarter percent each every more less than remaining left total "
    "average per"
)
_NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve dozen hundred thousand"
#: What bends a sum: factors, shares, conditions and the order of events.
_TURNS = "times twice double doubled triple tripled percent if when then after before"
#: One bit for every list that a word is on.
_LISTED: dict[str, int] = {}
for _bit, _words in ((1, _QUANTITIES), (2, _NUMBER_WORDS), (4, _TURNS)):
    _LISTED |= {word: _LISTED.get(word, 0) | _bit for word in _words.split()}
_OPERATORS = re.compile(r"[-+*/=<>^_\\{}()\[\]]")
_LONGEST_NUMBER = 15

SHAPES = 21
#: A text with at least this share of capitalised words, or with none, says nothing by its capitals.
_ALL_CAPITALISED = 0.7

#: So many of the shapes are counts, of which the logarithm is taken; they come first.
_COUNTS = 16


def shape_of(text: str) -> NDArray[np.float64]:
    """Measure a clipped text: (SHAPES,) logarithms of counts, and shares.

    What capitals tell, names and beginnings of sentences, is NaN where a text is written without
    them or with nothing else.
    """
    return np.asarray(shapes_of(clip(text), (0,))[0])


def shapes_of(text: str, starts: Sequence[int]) -> NDArray[np.float64]:
    """Measure ``text[start:]`` for every start of ``pieces_of``, (starts, SHAPES), in one reading."""
    seen, rows = _Seen(), []
    for piece in reversed(pieces_of(text, starts)):
        seen.prepend(piece)
        rows.append(seen.measures())
    shapes = np.array(rows[::-1])
    np.log1p(shapes[:, :_COUNTS], out=shapes[:, :_COUNTS])
    return shapes


class _Sums(NamedTuple):
    """What adds up over the pieces of a text."""

    characters: int = 0
    words: int = 0
    lines: int = 0
    numbers: int = 0
    sentences: int = 0
    commas: int = 0
    signs: int = 0
    operators: int = 0
    more_bytes: int = 0
    quantities: int = 0
    decimals: int = 0
    number_words: int = 0
    turns: int = 0
    capitals: int = 0
    letters: int = 0
    questions: int = 0


class _Seen:
    """What has been seen of a text that is read from its last piece to its first."""

    __slots__ = ("_blank_lines", "_largest", "_names", "_phrases", "_sums", "_words")

    def __init__(self) -> None:
        self._sums = _Sums()
        self._blank_lines = 0
        self._largest = 0.0
        self._phrases: list[int] = []
        self._names: set[str] = set()
        self._words: set[str] = set()

    def prepend(self, piece: str) -> None:
        """Take in what stands before all that has been seen."""
        is_last = not self._phrases
        numbers = _NUMBER.findall(piece)
        self._sums = _Sums(*map(add, self._sums, _sums_of(piece, numbers, is_last=is_last)))
        # Lines are counted from the first word on; a blank piece has none at all.
        blank = len(piece) - len(piece.lstrip())
        self._blank_lines = piece.count("\n", 0, blank) if blank < len(piece) else 0
        phrases = list(map(len, _PHRASE_END.split(piece)))
        if not is_last:
            phrases[-1] += self._phrases[0]
        self._phrases = phrases + self._phrases[1:]
        self._largest = max((self._largest, *map(_value, numbers)))
        self._names.update(_CAPITALISED.findall(piece))
        self._words.update(piece.lower().split())

    def measures(self) -> tuple[float, ...]:
        """Return the counts of all that has been seen, then its shares."""
        sums = self._sums
        count = max(sums.words, 1)
        capitalised = sums.capitals / count
        tells = 0.0 < capitalised < _ALL_CAPITALISED
        return (
            sums.characters,
            sums.words,
            sums.lines - self._blank_lines,
            sums.numbers,
            sums.sentences,
            sums.commas,
            sums.signs,
            sums.operators,
            sums.more_bytes,
            max(self._phrases),
            self._largest,
            sums.quantities,
            sums.decimals,
            len(self._names) if tells else np.nan,
            sums.numbers + sums.number_words,
            sums.turns,
            sums.numbers / count,
            sums.letters / count,
            capitalised if tells else np.nan,
            len(self._words) / count,
            float(sums.questions > 0),
        )


def _sums_of(piece: str, numbers: Sequence[str], *, is_last: bool) -> _Sums:
    words, percents = piece.split(), piece.count("%")
    listed = Counter(map(_LISTED.get, _LOWER_WORD.findall(piece.lower())))
    quantities = number_words = turns = 0
    for lists, times in listed.items():
        if lists:
            quantities += times * (lists & 1)
            number_words += times * (lists >> 1 & 1)
            turns += times * (lists >> 2)
    return _Sums(
        characters=len(piece),
        words=len(words),
        lines=(piece.rstrip() if is_last else piece).count("\n"),
        numbers=len(numbers),
        sentences=len(_SENTENCE_END.findall(piece)),
        commas=piece.count(","),
        signs=piece.count("$") + percents,
        operators=len(_OPERATORS.findall(piece)),
        more_bytes=len(piece.encode("utf-8", "surrogatepass")) - len(piece),
        quantities=quantities,
        decimals=sum("." in number for number in numbers),
        number_words=number_words,
        turns=turns + percents,
        capitals=sum(map(str.isupper, [word[0] for word in words])),
        letters=sum(map(len, words)),
        questions=piece.count("?"),
    )


def _value(number: str) -> float:
    whole = number.replace(",", "").partition(".")[0]
    return float(whole[:_LONGEST_NUMBER] or 0)
