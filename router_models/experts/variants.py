"""The members of the eleven-expert library: which domains, how many layers, which rank.

Needs no torch. Sizes make a real choice: a member that keeps fewer layers is smaller and worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from router_models.experts.library import BASE_MODEL

DOMAINS = ("code", "math", "clinical", "patents")
LAYERS = 30
#: Steps that train an expert of one domain.
STEPS = 100
#: The middle layers are the ones a Llama of this depth misses least (ShortGPT, arXiv 2403.03853):
#: of ten windows tried on prompts that train experts, windows in the middle lost a third as much.
_TO_24 = tuple(i for i in range(LAYERS) if not 13 <= i < 19)
_TO_18 = tuple(i for i in range(LAYERS) if not 10 <= i < 22)


@dataclass(frozen=True, slots=True)
class Variant:
    """An adapter of the base model, or of the base model without some of its layers.

    ``layers`` names the layers kept, counted in the whole model. The adapter's alpha is twice its
    rank. ``domains`` are drawn from in equal numbers of batches' prompts as they come, shuffled.
    """

    model: str
    domains: tuple[str, ...]
    rank: int
    steps: int
    layers: tuple[int, ...] = tuple(range(LAYERS))


#: Six more beside the base model and the four specialists of one domain that ship with it.
VARIANTS = (
    Variant(f"{BASE_MODEL}-18-reason", ("code", "math"), rank=16, steps=100, layers=_TO_18),
    Variant(f"{BASE_MODEL}-18-prose", ("clinical", "patents"), rank=16, steps=100, layers=_TO_18),
    Variant(f"{BASE_MODEL}-24-all", DOMAINS, rank=16, steps=80, layers=_TO_24),
    Variant(f"{BASE_MODEL}-all", DOMAINS, rank=16, steps=60),
    Variant(f"{BASE_MODEL}-reason", ("code", "math"), rank=4, steps=80),
    Variant(f"{BASE_MODEL}-prose", ("clinical", "patents"), rank=4, steps=50),
)
BATCH = 4


def megabytes(weights: Path, layers: tuple[int, ...], adapter: Path | None) -> float:
    """Size in MB of a model that keeps some layers of a GGUF file, with its adapter's file.

    Needs gguf, of the ``train`` extra.
    """
    import gguf

    kept = {f"blk.{layer}." for layer in layers}
    tensors = gguf.GGUFReader(weights).tensors
    own = sum(
        int(t.n_bytes)
        for t in tensors
        if not t.name.startswith("blk.") or any(t.name.startswith(k) for k in kept)
    )
    return (own + (adapter.stat().st_size if adapter else 0)) / 1e6
