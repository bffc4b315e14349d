"""Other ways to write the same prompt, which a router should send to the same model.

Four kinds, each drawn at random: ``case``, ``whitespace``, ``typo`` and ``paraphrase``. The last is
by rule: synonyms, contractions and what people put around a request. It keeps the meaning and needs
no language model, so that everyone gets the same variants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random

_WORD = re.compile(r"[A-Za-z]+")
_TYPO_SHARE = 0.06

_NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj",
    "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o",
    "q": "wa", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc",
    "y": "tu", "z": "x",
}  # fmt: skip

_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "about": ("regarding", "concerning"),
    "also": ("as well", "additionally"),
    "answer": ("reply", "response"),
    "begin": ("start", "commence"),
    "big": ("large", "sizeable"),
    "bought": ("purchased", "acquired"),
    "buy": ("purchase", "acquire"),
    "buys": ("purchases", "acquires"),
    "calculate": ("compute", "work out"),
    "contains": ("holds", "includes"),
    "correct": ("right", "accurate"),
    "cost": ("price", "be priced at"),
    "costs": ("is priced at", "goes for"),
    "create": ("make", "produce"),
    "describe": ("outline", "characterise"),
    "determine": ("find out", "establish"),
    "different": ("distinct", "various"),
    "does": ("will", "would"),
    "each": ("every", "every single"),
    "effect": ("influence", "impact"),
    "explain": ("clarify", "spell out"),
    "find": ("determine", "work out"),
    "gave": ("handed", "passed"),
    "get": ("obtain", "receive"),
    "gets": ("obtains", "receives"),
    "gives": ("hands", "passes"),
    "help": ("assist", "aid"),
    "how many": ("what number of", "how many in all of the"),
    "how much": ("what amount", "what sum"),
    "however": ("but", "nevertheless"),
    "if": ("assuming", "supposing"),
    "important": ("significant", "key"),
    "large": ("big", "sizeable"),
    "left": ("remaining", "left over"),
    "like": ("such as", "similar to"),
    "list": ("enumerate", "set out"),
    "made": ("produced", "created"),
    "make": ("produce", "create"),
    "method": ("approach", "procedure"),
    "more": ("additional", "further"),
    "most": ("nearly all", "the majority of"),
    "need": ("require", "have need of"),
    "needs": ("requires", "has need of"),
    "new": ("novel", "recent"),
    "often": ("frequently", "commonly"),
    "only": ("just", "merely"),
    "provide": ("give", "supply"),
    "provides": ("gives", "supplies"),
    "receive": ("get", "obtain"),
    "result": ("outcome", "consequence"),
    "results": ("outcomes", "findings"),
    "return": ("give back", "yield"),
    "show": ("display", "demonstrate"),
    "small": ("little", "minor"),
    "start": ("begin", "commence"),
    "sum": ("total", "aggregate"),
    "then": ("afterwards", "next"),
    "there are": ("we have", "one finds"),
    "there is": ("we have", "one finds"),
    "total": ("overall", "combined"),
    "use": ("employ", "apply"),
    "used": ("employed", "applied"),
    "uses": ("employs", "applies"),
    "using": ("with", "by means of"),
    "want": ("wish for", "desire"),
    "wants": ("wishes", "would like"),
    "what is": ("what's", "tell me"),
    "when": ("whenever", "at the time that"),
    "which": ("that", "what"),
    "write": ("draft", "compose"),
}
_SYNONYM = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, _SYNONYMS), key=len, reverse=True)) + r")\b", re.I
)
_CONTRACTIONS = {
    "do not": "don't", "does not": "doesn't", "is not": "isn't", "it is": "it's",
    "cannot": "can't", "will not": "won't", "they are": "they're", "that is": "that's",
}  # fmt: skip
_OPENINGS = (
    "",
    "Please: ",
    "Hi! ",
    "I have a question. ",
    "Could you help me with this? ",
    "Quick one: ",
    "Can you take this on? ",
)
_CLOSINGS = (
    "",
    " Thanks!",
    " Thank you in advance.",
    " Please be precise.",
    " Any help is welcome.",
)


def perturb(text: str, kind: str, draw: Random) -> str:
    """Write a prompt differently. Raises KeyError for a kind that is not one of KINDS."""
    return KINDS[kind](text, draw)


def _case(text: str, draw: Random) -> str:
    return draw.choice((str.lower, str.upper, str.title, str.swapcase))(text)


def _whitespace(text: str, draw: Random) -> str:
    gap = draw.choice(("  ", "\n", "\t", "   "))
    share = draw.choice((0.1, 0.3, 1.0))
    spaced = re.sub(r" ", lambda _: gap if draw.random() < share else " ", text)
    return draw.choice(("", " ", "\n\n")) + spaced + draw.choice(("", " ", "\n", "  \n"))


def _typo(text: str, draw: Random) -> str:
    words = [m for m in _WORD.finditer(text) if len(m.group()) > 2]
    if not words:
        return text
    count = max(1, round(len(words) * _TYPO_SHARE))
    for match in sorted(draw.sample(words, count), key=lambda m: -m.start()):
        text = text[: match.start()] + _mistyped(match.group(), draw) + text[match.end() :]
    return text


def _mistyped(word: str, draw: Random) -> str:
    at = draw.randrange(1, len(word))
    slip = draw.randrange(4)
    if slip == 0:
        return word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
    if slip == 1:
        return word[:at] + word[at + 1 :]
    if slip == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + draw.choice(_NEIGHBOURS[word[at].lower()]) + word[at + 1 :]


def _paraphrase(text: str, draw: Random) -> str:
    for long, short in _CONTRACTIONS.items():
        if draw.random() < 0.5:
            text = re.sub(rf"\b{long}\b", short, text)

    def replaced(match: re.Match[str]) -> str:
        found = match.group()
        if draw.random() < 0.4:
            return found
        other = draw.choice(_SYNONYMS[found.lower()])
        return other.capitalize() if found[0].isupper() else other

    return draw.choice(_OPENINGS) + _SYNONYM.sub(replaced, text) + draw.choice(_CLOSINGS)


KINDS: Mapping[str, Callable[[str, Random], str]] = {
    "paraphrase": _paraphrase,
    "typo": _typo,
    "case": _case,
    "whitespace": _whitespace,
}
