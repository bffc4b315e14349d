"""A router's predictions as arrays and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from router_models.prices import Prices, cost_usd
from router_models.retriever.model import RetrieverRouter
from router_models.training.dataset import PromptTable
from router_models.types import Router

Matrix = NDArray[np.float64]

#: Characters of a token where nobody has counted.
CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Predictions:
    """Every array has shape (prompts, models), in the order of ``Router.models``."""

    quality: Matrix
    quality_low: Matrix
    quality_high: Matrix
    output_tokens: Matrix

    def of_models(self, columns: Sequence[int]) -> Predictions:
        """Return the predictions of some models, in the order given."""
        return Predictions(
            self.quality[:, columns],
            self.quality_low[:, columns],
            self.quality_high[:, columns],
            self.output_tokens[:, columns],
        )


def predict_all(router: Router, prompts: Sequence[str]) -> Predictions:
    """Score every prompt."""
    estimates = [router.score(prompt) for prompt in prompts]
    return Predictions(
        np.array([e.quality for e in estimates]),
        np.array([e.quality_low for e in estimates]),
        np.array([e.quality_high for e in estimates]),
        np.array([e.output_tokens for e in estimates]),
    )


def predict_table(router: Router, data: PromptTable, prices: Prices | None = None) -> pa.Table:
    """Predict for every prompt and model.

    Columns: ``prompt_id``, ``model``, ``predicted_quality``, ``predicted_output_tokens``,
    ``predicted_cost_usd`` (null where no price is known; the prompt's tokens are taken as its
    characters / 4).
    """
    predicted = predict_all(router, data.prompts)
    prompt_tokens = np.array([len(p) / CHARS_PER_TOKEN for p in data.prompts])
    costs = cost_usd(prices or {}, router.models, prompt_tokens, predicted.output_tokens).ravel()
    models = len(router.models)
    return pa.table(
        {
            "prompt_id": pa.array(
                np.repeat(np.array(data.prompt_ids, object), models), pa.string()
            ),
            "model": pa.array(list(router.models) * len(data.prompt_ids), pa.string()),
            "predicted_quality": predicted.quality.ravel(),
            "predicted_output_tokens": predicted.output_tokens.ravel(),
            "predicted_cost_usd": pa.array(costs, pa.float64(), mask=np.isnan(costs)),
        }
    )


def pilots_column(
    retriever: RetrieverRouter, models: Sequence[str], data: PromptTable, nearest: int
) -> tuple[str, pa.Array]:
    """Tell, row by row of ``predict_table``, how the model did on the pilots nearest to the prompt.

    A cell is a list of structs: the pilot's ``name``, ``similarity``, the ``mean`` outcome with its
    ``error``, in the unit of the router's target, and the ``prompts`` behind it.
    """
    cells = []
    for prompt in data.prompts:
        neighbours = retriever.explain(prompt, nearest)
        for model in models:
            rows = []
            for neighbour in neighbours:
                mean, error, prompts = neighbour.outcomes.get(model, (None, None, 0))
                rows.append(
                    {
                        "name": neighbour.name,
                        "similarity": neighbour.similarity,
                        "mean": mean,
                        "error": error,
                        "prompts": prompts,
                    }
                )
            cells.append(rows)
    kind = pa.struct(
        [
            ("name", pa.string()),
            ("similarity", pa.float64()),
            ("mean", pa.float64()),
            ("error", pa.float64()),
            ("prompts", pa.int64()),
        ]
    )
    return "nearest_pilots", pa.array(cells, pa.list_(kind))
