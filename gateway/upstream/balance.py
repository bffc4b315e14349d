"""In which order the replicas of a model are asked. Pure; what it goes by is given."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import ceil
from typing import Literal

from gateway.upstream.backend import BackendHandle

Balance = Literal["least_loaded", "two_choices", "prefix", "listed"]
#: How many requests more a backend may be busy with that has the adapter at work already.
ADAPTER_WORTH = 4.0
#: How much busier than the average a backend may get by what its cache attracts.
LOAD_BOUND = 1.25

Load = Callable[[BackendHandle], float]


def ordered(
    usable: Sequence[BackendHandle], balance: Balance, now_s: float, prefix: bytes | None
) -> list[BackendHandle]:
    """Put the backends into the order to ask them in; ``prefix`` is how the prompt begins.

    One where the model's adapter is at work counts as less busy: no other need be pushed out for it.
    """
    if len(usable) < 2 or balance == "listed":
        return list(usable)

    def load(backend: BackendHandle) -> float:
        return backend.health.pressure(now_s) - ADAPTER_WORTH * backend.has_adapter(now_s)

    if balance == "prefix" and prefix:
        return _by_prefix(usable, load, prefix)
    least_first = sorted(usable, key=load)
    return _two_first(least_first) if balance == "two_choices" else least_first


def _two_first(least_first: list[BackendHandle]) -> list[BackendHandle]:
    """Begin with the less busy of two drawn at random (Mitzenmacher 2001).

    Several gateways that look at the same old numbers do not all run to the same backend.
    """
    drawn = min(random.sample(range(len(least_first)), 2))
    return [least_first[drawn], *least_first[:drawn], *least_first[drawn + 1 :]]


def _by_prefix(usable: Sequence[BackendHandle], load: Load, prefix: bytes) -> list[BackendHandle]:
    """Begin where this prefix was served before, unless that backend is too busy.

    Rendezvous hashing (Thaler and Ravishankar 1998): a backend that comes or goes moves only its own
    prompts. The bound on its load is that of Mirrokni, Thorup and Zadimoghaddam (2018).
    """
    ranked = sorted(usable, key=lambda b: _rank(b.name, prefix), reverse=True)
    loads = [max(0.0, load(b)) for b in ranked]
    bound = ceil(LOAD_BOUND * (sum(loads) + 1) / len(ranked))
    first = next((i for i, busy in enumerate(loads) if busy < bound), 0)
    return [ranked[first], *ranked[:first], *ranked[first + 1 :]]


def _rank(name: str, prefix: bytes) -> bytes:
    return blake2b(prefix + b"\0" + name.encode(), digest_size=8).digest()
