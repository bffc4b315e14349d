"""Train every router of an artifact on the same prompts and the same folds."""

from __future__ import annotations

from dataclasses import dataclass

from router_models.perceptive.model import to_quality
from router_models.suite import RouterSuite
from router_models.training.calibrate import fit_calibration, fit_stacking
from router_models.training.checkpoint import Checkpoint
from router_models.training.dataset import RoutingData
from router_models.training.encoders import Progress
from router_models.training.fit_pilots import FittedPilots, Measured, PilotOptions, fit_pilots
from router_models.training.train import (
    FittedPerceptive,
    TrainingOptions,
    TrainingReport,
    fit_perceptive,
)


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
    checkpoint: Checkpoint | None = None,
) -> tuple[RouterSuite, SuiteReport]:
    """Fit the perceptive router and, with ``pilots``, the retriever and the ensemble; calibrate all.

    Pass ``RoutingData.training()``. Raises DataError when there are fewer than 10 prompts.
    """
    perceived = fit_perceptive(data, options, progress, checkpoint)
    target, folds = perceived.router.target, perceived.evidence.folds
    raw = {"perceptive": to_quality(perceived.out_of_fold, target)}
    fitted, stacking = None, None
    if pilots is not None:
        progress("pilots", 0, 1)
        fitted = fit_pilots(_measured(data, perceived), pilots)
        progress("pilots", 1, 1)
    if fitted is not None and fitted.out_of_fold is not None:
        outcomes = perceived.out_of_fold, fitted.out_of_fold
        stacking = fit_stacking(target, perceived.targets, *outcomes)
        raw["retriever"] = to_quality(fitted.out_of_fold, target)
        raw["ensemble"] = to_quality(stacking.mix(*outcomes), target)
    suite = RouterSuite(
        perceived.router,
        None if fitted is None else fitted.router,
        stacking,
        {
            kind: fit_calibration(data.models, quality, data.scores, data.tasks, folds)
            for kind, quality in raw.items()
        },
    )
    return suite, SuiteReport(perceived.report, None if fitted is None else _told(fitted))


def _measured(data: RoutingData, perceived: FittedPerceptive) -> Measured:
    return Measured(
        data=data,
        target=perceived.router.target,
        encoder=perceived.router.encoder,
        x=perceived.evidence.x.first_columns(perceived.router.encoder.word_rows),
        targets=perceived.targets,
        folds=perceived.evidence.folds,
    )


def _told(fitted: FittedPilots) -> dict[str, object]:
    router = fitted.router
    return {
        "rule": router.rule,
        "count": len(router.library.names),
        "dimensions": int(router.axes.shape[1]),
        "bandwidth": router.bandwidth,
        "shrinkage": router.shrinkage,
        "reach": router.reach,
        "squared_error": fitted.squared_error,
    }
