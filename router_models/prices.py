"""What a call costs at list prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float


Prices = Mapping[str, Price]


def cost_usd(
    prices: Prices, models: tuple[str, ...], prompt_tokens: Matrix, output_tokens: Matrix
) -> Matrix:
    """Return dollars per call, shape (prompts, models); NaN where a price is not known.

    ``prompt_tokens`` has shape (prompts,), ``output_tokens`` (prompts, models).
    """
    unknown = Price(np.nan, np.nan)
    listed = [prices.get(model, unknown) for model in models]
    per_input = np.array([p.input_usd_per_mtok for p in listed])
    per_output = np.array([p.output_usd_per_mtok for p in listed])
    return np.asarray((prompt_tokens[:, None] * per_input + output_tokens * per_output) / 1e6)
