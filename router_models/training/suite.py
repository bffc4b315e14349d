"""Train every router of an artifact on the same prompts and the same folds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_models.suite import RouterSuite
from router_models.training.dataset import RoutingData
from router_models.training.fit_pilots import FittedPilots, Measured, PilotOptions, fit_pilots
from router_models.training.train import (
    FittedPerceptive,
    Progress,
    TrainingOptions,
    TrainingReport,
    fit_perceptive,
)

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """What was fitted; ``pilots`` is None without a retriever."""

    perceptive: TrainingReport
    pilots: dict[str, object] | None

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {**self.perceptive.to_json(), "pilots": self.pilots}


def train_suite(
    data: RoutingData,
    options: TrainingOptions | None = None,
    progress: Progress = lambda stage, done, total: None,
    *,
    pilots: PilotOptions | None = None,
) -> tuple[RouterSuite, SuiteReport]:
    """Fit the perceptive router and, with ``pilots``, the retriever.

    Pass ``RoutingData.training()``. Raises DataError when there are fewer than 10 prompts.
    """
    perceived = fit_perceptive(data, options, progress)
    if pilots is None:
        return RouterSuite(perceived.router), SuiteReport(perceived.report, None)
    progress("pilots", 0, 1)
    fitted = fit_pilots(_measured(data, perceived), pilots)
    progress("pilots", 1, 1)
    retriever = replace(fitted.router, version=f"{perceived.router.version}-retriever")
    suite = RouterSuite(perceived.router, retriever)
    return suite, SuiteReport(perceived.report, _told(fitted))


def _measured(data: RoutingData, perceived: FittedPerceptive) -> Measured:
    return Measured(
        data=data,
        target=perceived.router.target,
        encoder=perceived.router.encoder,
        x=perceived.evidence.x,
        targets=perceived.targets,
        folds=perceived.evidence.folds,
    )


def _told(fitted: FittedPilots) -> dict[str, object]:
    router = fitted.router
    error = fitted.squared_error
    return {
        "rule": router.rule,
        "count": len(router.library.names),
        "dimensions": int(router.axes.shape[1]),
        "bandwidth": router.bandwidth,
        "shrinkage": router.shrinkage,
        "squared_error": None if np.isnan(error) else error,
    }
