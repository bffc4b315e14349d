"""Search for prefixes that make a router send any prompt to its strong model, and count their wins.

The attack is that of Shafran et al., *Rerouting LLM Routers* (arXiv 2501.01818): a gadget of a few
words, found by hill climbing on the router's own scores, is put before every prompt. The attacker
here is a strong one: it sees the scores, and it draws words from the router's training prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.gate import Gate

Matrix = NDArray[np.float64]
#: Predicted quality, (prompts, models), of some prompts.
Quality = Callable[[Sequence[str]], Matrix]

_MAX_WORD = 30


@dataclass(frozen=True, slots=True)
class Search:
    """How hard the attacker tries: ``rounds`` of ``candidates`` for one of ``words`` at a time."""

    gadgets: int = 24
    words: int = 10
    rounds: int = 40
    candidates: int = 8
    prompts: int = 16


def find_gadgets(
    quality: Quality, gate: Gate, prompts: Sequence[str], search: Search, seed: int = 0
) -> list[str]:
    """Climb from random words to gadgets that lift the mean lead of the gate's model.

    ``quality`` scores prompts as the attacked router does; ``prompts`` are the attacker's own.
    """
    vocabulary = sorted({w for prompt in prompts for w in prompt.split() if len(w) < _MAX_WORD})
    found = []
    for number in range(search.gadgets):
        draw = Random(f"{seed}:{number}")
        own = draw.sample(list(prompts), min(search.prompts, len(prompts)))
        words = [draw.choice(vocabulary) for _ in range(search.words)]
        found.append(_climb(quality, gate, own, words, vocabulary, search, draw))
    return found


def random_prefixes(prompts: Sequence[str], search: Search, seed: int = 0) -> list[str]:
    """As many prefixes of random words: what tampering does without a search."""
    return find_gadgets(
        lambda _: np.zeros((1, 2)), Gate(0, 0.0), prompts, replace(search, rounds=0), seed
    )


def wins(
    quality: Quality, gate: Gate, gadgets: Sequence[str], kept: Sequence[str]
) -> NDArray[np.bool_]:
    """Whether each gadget lifts each prompt over the gate, (gadgets, prompts).

    ``kept`` are prompts that the gate keeps from the strong model when they come alone.
    """
    lifted = [gate.escalates(quality([f"{gadget} {p}" for p in kept])) for gadget in gadgets]
    return np.array(lifted).reshape(len(gadgets), len(kept))


def _climb(
    quality: Quality,
    gate: Gate,
    prompts: Sequence[str],
    words: list[str],
    vocabulary: Sequence[str],
    search: Search,
    draw: Random,
) -> str:
    def lead(tried: Sequence[str]) -> float:
        gadget = " ".join(tried)
        return float(gate.margins(quality([f"{gadget} {p}" for p in prompts])).mean())

    best = lead(words)
    for step in range(search.rounds):
        at = step % search.words
        for _ in range(search.candidates):
            tried = [*words[:at], draw.choice(vocabulary), *words[at + 1 :]]
            value = lead(tried)
            if value > best:
                words, best = tried, value
    return " ".join(words)
