"""Predict from the outcomes of the nearest pilots.

    outcome(m) = (Σ_j w_j · n_jm · mean_jm + κ · prior_m) / (Σ_j w_j · n_jm + κ),
    w_j = exp((cos(prompt, centroid_j) - 1) / τ)

is a kernel average of what was measured near the prompt, shrunk to the model's overall mean by κ
prompts: far from every pilot the weights vanish and the overall mean is what remains. τ and κ are
chosen in training. RouterRetriever's own rule (arXiv 2409.02685), the mean similarity of the
pilots that a model wins, is the rule ``literal``: a preference, not a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder, Rows, Weights
from router_models.perceptive.model import to_quality
from router_models.retriever.library import Floats, Matrix, PilotLibrary
from router_models.retriever.search import Search, open_search
from router_models.types import Estimates, Vector

Rule = Literal["outcomes", "literal"]

#: exp of more than this is no sensible number of tokens.
_MAX_LOG_TOKENS = 13.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A pilot near a prompt: cosine ``similarity``, ``size`` in prompts, its most typical prompt.

    ``outcomes`` tells (mean, standard error, prompts) of every model that was measured there;
    ``unit`` what an outcome is, a loss in nats per token or a score.
    """

    pilot: int
    name: str
    similarity: float
    size: int
    example: str
    unit: str
    outcomes: dict[str, tuple[float, float, int]]


@dataclass(frozen=True, slots=True)
class RetrieverRouter:
    """A router that shows its evidence. Thread-safe: scoring reads and never writes.

    ``axes`` (encoder.word_rows, dimensions) turn the words of a prompt into the pilots' space.
    ``bandwidth`` is τ, ``shrinkage`` κ in prompts. ``reach`` is the nearness below which a prompt is
    far: unlike all that was trained on. ``error_low`` and ``error_high``, (models,),
    bound truth minus prediction.
    """

    version: str
    encoder: Encoder
    axes: Floats
    library: PilotLibrary
    rule: Rule
    bandwidth: float
    shrinkage: float
    error_low: Vector
    error_high: Vector
    reach: float = 0.0
    _search: Search = field(init=False, repr=False, compare=False)
    _sums: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _winners: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        library = self.library
        measured = library.measured
        sums = np.hstack([measured, measured * library.means, measured * library.log_tokens])
        object.__setattr__(self, "_search", open_search(library.centroids))
        object.__setattr__(self, "_sums", sums)
        object.__setattr__(self, "_winners", library.winners())

    @property
    def models(self) -> tuple[str, ...]:
        return self.library.models

    def score(self, prompt: str) -> Estimates:
        """Predict from the prompt's text; any string is answered."""
        return self.read(*self.encoder.encode(prompt))

    def read(self, rows: Rows, weights: Weights) -> Estimates:
        """Predict from the encoded prompt."""
        library = self.library
        direction, length = self.locate(rows, weights)
        found, similar = self._search.nearest(direction)
        nearness = length * float(similar.max())
        kernel = np.exp((similar.astype(np.float64) - 1.0) / self.bandwidth)
        measured, outcomes, lengths = (kernel @ self._sums[found]).reshape(3, -1)
        total = measured + self.shrinkage
        outcome = (outcomes + self.shrinkage * library.priors) / total
        log_tokens = (lengths + self.shrinkage * library.log_token_priors) / total
        tokens = np.exp(np.minimum(log_tokens, _MAX_LOG_TOKENS))
        if self.rule == "literal":
            quality = self._literal(direction)
            unknown = np.zeros_like(quality)
            return Estimates(self.models, quality, unknown, unknown + 1.0, tokens, nearness)
        ends = [
            to_quality(outcome + error, library.target)
            for error in (self.error_low, self.error_high)
        ]
        return Estimates(
            models=self.models,
            quality=to_quality(outcome, library.target),
            quality_low=np.minimum(*ends),
            quality_high=np.maximum(*ends),
            output_tokens=tokens,
            nearness=nearness,
        )

    def explain(self, prompt: str, count: int = 5) -> tuple[Neighbour, ...]:
        """Return the pilots nearest to a prompt, the nearest first."""
        direction, _ = self.locate(*self.encoder.encode(prompt))
        found, similar = self._search.nearest(direction)
        nearest = np.argsort(-similar, kind="stable")[:count]
        return tuple(
            self._neighbour(int(found[i]), float(similar[i])) for i in nearest if direction.any()
        )

    def nearness(self, rows: Rows, weights: Weights) -> float:
        """Return the largest dot product of an encoded prompt with a pilot, at most 1.

        Words that no training prompt holds, and mixtures that none has, make a prompt's vector short:
        a prompt is near when much of it is known and lies along one pilot.
        """
        direction, length = self.locate(rows, weights)
        return length * float(self._search.nearest(direction)[1].max())

    def locate(self, rows: Rows, weights: Weights) -> tuple[Floats, float]:
        """Return an encoded prompt's direction, (dimensions,), of length 1 or 0, and its length."""
        words = int(np.searchsorted(rows, len(self.axes)))
        vector = weights[:words] @ self.axes[rows[:words]]
        length = float(vector @ vector) ** 0.5
        return np.asarray(vector / np.float32(max(length, 1e-9)), np.float32), length

    def _literal(self, direction: Floats) -> Matrix:
        """Half of one plus the mean cosine over the pilots that each model wins; 0 without any."""
        similar = self.library.centroids @ direction
        won = np.bincount(self._winners, minlength=len(self.models))
        sums = np.bincount(self._winners, weights=similar, minlength=len(self.models))
        return np.where(won > 0, (1.0 + sums / np.maximum(won, 1)) / 2.0, 0.0)

    def _neighbour(self, pilot: int, similarity: float) -> Neighbour:
        library = self.library
        prompts = library.prompts[pilot]
        return Neighbour(
            pilot=pilot,
            name=library.names[pilot],
            similarity=similarity,
            size=int(library.sizes[pilot]),
            example=prompts[0].text if prompts else "",
            unit=library.target,
            outcomes={
                model: (
                    float(library.means[pilot, m]),
                    float(library.errors[pilot, m]),
                    int(library.measured[pilot, m]),
                )
                for m, model in enumerate(self.models)
                if library.measured[pilot, m] > 0
            },
        )
