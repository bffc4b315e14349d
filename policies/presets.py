"""The named profiles: each is a set of weights λ over the goals of the objective.

A scaled cost runs from 0 to 1 over the feasible pool, and so does quality: a weight of 0.2 gives up
at most 0.2 of predicted quality for the pool's cheapest model over its dearest.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Outweighs all of quality from a hundredth of the pool's range on: the goal decides, and quality
#: only among candidates that are as good as equal in it. A ``min_quality`` is the way to temper it.
_DECISIVE = 100.0
#: A wish about manner: it moves the choice among good answers, and a clearly better answer wins.
_PREFERRED = 0.5

_WEIGHTS: dict[str, dict[str, float]] = {
    # Quality alone; price matters only between equals.
    "best": {},
    # The dearest model must be better than the cheapest by 0.2, the slowest than the fastest by
    # 0.1: a dear or slow model has to earn it, and a clearly better answer is not given up.
    "balanced": {"cost": 0.2, "latency": 0.1},
    "cheap": {"cost": _DECISIVE},
    "fast": {"latency": _DECISIVE},
    # Tryage's "[Flag: smallest model]".
    "small": {"size": _DECISIVE},
    # A newer model knows more of the world, which is worth little if it answers worse.
    "fresh": {"recency": _PREFERRED},
    # A higher clearance is a demand, not a wish.
    "secure": {"security": _DECISIVE},
    "concise": {"verbosity": _PREFERRED},
    "readable": {"readability": _PREFERRED},
}

#: Weights of every profile by its name.
PROFILES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {name: MappingProxyType(weights) for name, weights in _WEIGHTS.items()}
)

#: What ``auto`` alone means.
DEFAULT_PROFILE = "best"

#: OpenRouter's suffixes by the profile they stand for.
PROFILE_ALIASES: Mapping[str, str] = MappingProxyType({"floor": "cheap", "nitro": "fast"})


def threshold_weights(threshold: float) -> dict[str, float]:
    """Weights that act like RouteLLM's threshold (arXiv 2406.18665) in a pool of any size.

    RouteLLM asks the strong model where its chance to win is at least ``threshold``, in [0, 1].
    Here the threshold is the weight of cost: of two models the dearer is asked where it is
    predicted to be better by more than ``threshold``. 0 is quality alone, 1 is always the cheaper,
    and in between a larger one never sends more prompts to the dearer. The scale is that of
    predicted quality, so a threshold found for RouteLLM's own routers must be found again.
    """
    return {"cost": threshold}
