"""Whether an answer matches a reference: five stated rules, each 1 or 0."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
#: A number as people write it: sign, thousands set off by commas, decimals, an exponent.
_NUMBER = re.compile(r"[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-−+]?\.\d+")
#: "The answer is (C)", "Answer: C": the last one counts, since models correct themselves.
_SAID_CHOICE = re.compile(
    r"\b(?:answer|choice|option)\b(?:\s+is)?\s*[:=]?\s*[\[(*\"']*([A-J])\b(?![a-z'])", re.IGNORECASE
)
#: A line that is a letter and nothing else, or begins with one: "C", "(C)", "C. Paris".
_LINE_CHOICE = re.compile(r"^\s*[\[(*]*([A-J])(?:[\])*.:]+(?:\s|$)|\s*$)", re.MULTILINE)
#: Relative difference up to which two numbers are the same.
_TOLERANCE = 1e-6


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and repeated spaces (Rajpurkar et al., SQuAD)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = "".join(" " if unicodedata.category(c).startswith("P") else c for c in folded)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def last_number(text: str) -> float | None:
    """The last number of a text, where results stand; None where there is none."""
    found = _NUMBER.findall(text)
    return None if not found else float(found[-1].replace(",", "").replace("−", "-"))


def choice(text: str) -> str | None:
    """The letter that an answer settles on, A to J; None where it names none."""
    said = _SAID_CHOICE.findall(text)
    lines = _LINE_CHOICE.findall(text)
    found = said[-1] if said else lines[0] if lines else None
    return None if found is None else found.upper()


def _exact(answer: str, reference: str) -> bool:
    return answer.strip() == reference.strip()


def _normalised(answer: str, reference: str) -> bool:
    return normalise(answer) == normalise(reference)


def _numeric(answer: str, reference: str) -> bool:
    own, expected = last_number(answer), last_number(reference)
    if own is None or expected is None:
        return False
    return abs(own - expected) <= _TOLERANCE * max(1.0, abs(expected))


def _contains(answer: str, reference: str) -> bool:
    wanted = normalise(reference)
    return bool(wanted) and f" {wanted} " in f" {normalise(answer)} "


def _choice(answer: str, reference: str) -> bool:
    expected = reference.strip().strip("().").upper()
    return choice(answer) == (expected if len(expected) == 1 else choice(reference))


RULES: Mapping[str, Callable[[str, str], bool]] = {
    "exact": _exact,
    "normalised": _normalised,
    "numeric": _numeric,
    "contains": _contains,
    "choice": _choice,
}


def match(rule: str, answer: str, references: Sequence[str]) -> float:
    """1 where the answer matches any reference by the rule, else 0."""
    return float(any(RULES[rule](answer, reference) for reference in references))
