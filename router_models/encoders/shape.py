"""Numbers about a text that no word carries: its length, its sentences, its arithmetic, its names.

How hard a prompt is shows in them: on GSM8K they tell more than its words do.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from router_models.prompt_text import clip

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_PHRASE_END = re.compile(r"[.!?\n]")
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+")
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


def shape_of(text: str) -> NDArray[np.float64]:
    """Measure a clipped text: (SHAPES,) logarithms of counts, and shares.

    What capitals tell, names and beginnings of sentences, is NaN where a text is written without
    them or with nothing else.
    """
    text = clip(text)
    lower = text.lower()
    words = text.split()
    count = max(len(words), 1)
    numbers = _NUMBER.findall(text)
    capitalised = sum(word[0].isupper() for word in words) / count
    listed = Counter(map(_LISTED.get, _LOWER_WORD.findall(lower)))
    quantities, number_words, turns = (
        sum(times for lists, times in listed.items() if lists and lists & bit) for bit in (1, 2, 4)
    )
    tells = 0.0 < capitalised < _ALL_CAPITALISED
    counts = (
        len(text),
        len(words),
        text.strip().count("\n"),
        len(numbers),
        len(_SENTENCE_END.findall(text)),
        text.count(","),
        text.count("$") + text.count("%"),
        len(_OPERATORS.findall(text)),
        len(text.encode("utf-8", "surrogatepass")) - len(text),
        max(map(len, _PHRASE_END.split(text))),
        max(map(_value, numbers), default=0.0),
        quantities,
        sum("." in number for number in numbers),
        len(set(_CAPITALISED.findall(text))) if tells else np.nan,
        len(numbers) + number_words,
        turns + text.count("%"),
    )
    shares = (
        len(numbers) / count,
        sum(map(len, words)) / count,
        capitalised if tells else np.nan,
        len(set(lower.split())) / count,
        float("?" in text),
    )
    return np.concatenate([np.log1p(counts), shares])


def _value(number: str) -> float:
    whole = number.replace(",", "").partition(".")[0]
    return float(whole[:_LONGEST_NUMBER] or 0)
