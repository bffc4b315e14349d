"""The default encoder: the words of a text and, after them, its shape.

Words know what the training prompts spoke of; the shape, which every text has, tells how hard a
prompt may be and holds for words that none of them used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_models.encoders import Encoder, Rows, Weights
from router_models.encoders.lexical import fit_lexical
from router_models.encoders.shape import SHAPES, shape_of, shapes_of
from router_models.prompt_text import clip

#: A shape further out than this many standard deviations counts as this far.
_FAR = 3.0


@dataclass(frozen=True, slots=True)
class BlendEncoder:
    """Rows of ``words``, then SHAPES rows that stand for the text's shape.

    ``shape_mean`` and ``shape_scale``, (SHAPES,), standardise a shape to the training prompts';
    ``shape_share`` is its mean squared length there, the words' being one, and 0 leaves it out.
    What a shape does not tell counts as the mean, and a blank text has no shape.
    Raises ValueError when the sizes disagree.
    """

    words: Encoder
    shape_mean: NDArray[np.float64]
    shape_scale: NDArray[np.float64]
    shape_share: float

    def __post_init__(self) -> None:
        for name in ("shape_mean", "shape_scale"):
            if getattr(self, name).shape != (SHAPES,):
                raise ValueError(f"array {name!r} has shape {getattr(self, name).shape}")
        if not self.shape_scale.min() > 0 or not self.shape_share >= 0:
            raise ValueError("'shape_scale' must be positive and 'shape_share' not negative")

    @property
    def kind(self) -> str:
        return "blend"

    @property
    def rows(self) -> int:
        return self.words.rows + SHAPES

    @property
    def word_rows(self) -> int:
        return self.words.rows

    def encode(self, text: str) -> tuple[Rows, Weights]:
        return self.encode_tails(clip(text), (0,))[0]

    def encode_tails(self, text: str, starts: Sequence[int]) -> list[tuple[Rows, Weights]]:
        words = self.words.encode_tails(text, starts)
        if not self.shape_share or not text.strip():
            return words
        shapes = (shapes_of(text, starts) - self.shape_mean) / self.shape_scale
        shapes[np.isnan(shapes)] = 0.0
        np.minimum(np.maximum(shapes, -_FAR, out=shapes), _FAR, out=shapes)
        shapes = (shapes * (self.shape_share / SHAPES) ** 0.5).astype(np.float32)
        own = np.arange(self.words.rows, self.rows)
        return [
            (np.concatenate((rows, own)), np.concatenate((weights, shape)))
            for (rows, weights), shape in zip(words, shapes, strict=True)
        ]

    def with_shape(self, share: float) -> BlendEncoder:
        """Return the same encoder with the shape at another share."""
        return replace(self, shape_share=share)

    def settings(self) -> dict[str, float]:
        return {**self.words.settings(), "shape_share": self.shape_share}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {
            **self.words.arrays(),
            "shape_mean": self.shape_mean,
            "shape_scale": self.shape_scale,
        }


def fit_blend(texts: Sequence[str], *, max_rows: int) -> BlendEncoder:
    """Learn the words, at most ``max_rows``, and how shapes vary; the shape is left out at first."""
    shapes = np.array([shape_of(text) for text in texts])
    told = ~np.isnan(shapes)
    counts = np.maximum(told.sum(axis=0), 1)
    mean = np.where(told, shapes, 0.0).sum(axis=0) / counts
    spread = (np.square(np.where(told, shapes - mean, 0.0)).sum(axis=0) / counts) ** 0.5
    return BlendEncoder(
        words=fit_lexical(texts, max_rows=max_rows, use_idf=True),
        shape_mean=mean,
        shape_scale=np.where(spread > 1e-6, spread, 1.0),
        shape_share=0.0,
    )
