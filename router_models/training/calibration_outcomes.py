"""Outcomes to calibrate a guarantee on: what a router predicted, and which answers then failed."""

from __future__ import annotations

import numpy as np

from router_models.evaluation.predictions import predict_all
from router_models.training.dataset import RoutingData
from router_models.types import DataError, Router


def calibration_outcomes(router: Router, data: RoutingData, pass_score: float) -> dict[str, object]:
    """Predict every prompt that all of the router's models were measured on.

    Returns a JSON object: ``models``, ``router_version``, ``pass_score``, and row by prompt
    ``predicted`` and ``failed`` (score below ``pass_score``). The prompts must be none that the
    router was trained on, or the promise made from them is void. Raises DataError when no prompt
    or not every model can be used.
    """
    missing = [model for model in router.models if model not in data.models]
    if missing:
        raise DataError(f"column 'model': no row of {', '.join(missing)}, which the router knows")
    scores = data.scores[:, [data.models.index(model) for model in router.models]]
    whole = ~np.isnan(scores).any(axis=1)
    if not whole.any():
        raise DataError("column 'score': no prompt has a score of every model")
    measured = data.take(np.flatnonzero(whole))
    return {
        "router_version": router.version,
        "pass_score": pass_score,
        "models": list(router.models),
        "predicted": predict_all(router, measured.prompts).quality.tolist(),
        "failed": (scores[whole] < pass_score).tolist(),
    }
