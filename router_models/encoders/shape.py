"""Numbers about a text that no word carries: its length, its sentences, its arithmetic, its names.

How hard a prompt is shows in them: on GSM8K they tell more than its words do.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from router_models.prompt_text import clip

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_PHRASE_END = re.compile(r"[.!?\n]")
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+")
_QUANTITY = re.compile(
    r"\b(?:half|twice|double|triple|third|quarter|percent|each|every|more|less|than|remaining|left|"
    r"total|average|per)\b"
)
_OPERATORS = re.compile(r"[-+*/=<>^_\\{}()\[\]]")
_LONGEST_NUMBER = 15

SHAPES = 19
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
        len(_QUANTITY.findall(lower)),
        sum("." in number for number in numbers),
        len(set(_CAPITALISED.findall(text))) if tells else np.nan,
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
