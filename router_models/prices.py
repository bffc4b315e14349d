"""What a call costs at list prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from router_models.types import DataError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float


Prices = Mapping[str, Price]


def read_prices(path: Path) -> Prices:
    """Read ``model: {input: USD, output: USD}`` per million tokens, as YAML or JSON.

    Raises DataError naming the file, and the model whose price is not two numbers from 0 up.
    """
    try:
        listed = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as prices: {error}") from error
    if not isinstance(listed, dict) or not listed:
        raise DataError(
            f"{path}: must map models to {{input: USD, output: USD}} per million tokens"
        )
    return {str(model): _price(path, str(model), entry) for model, entry in listed.items()}


def _price(path: Path, model: str, entry: object) -> Price:
    if isinstance(entry, Mapping) and set(entry) == {"input", "output"}:
        values = [entry["input"], entry["output"]]
        if all(type(v) in (int, float) and isfinite(v) and v >= 0 for v in values):
            return Price(float(values[0]), float(values[1]))
    raise DataError(
        f"{path}: the price of {model!r} must be {{input: USD, output: USD}}, from 0 up"
    )


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
