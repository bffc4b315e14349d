"""Train every router of an artifact on the same prompts and the same folds."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass

from router_models.encoders.storage import is_slow
from router_models.perceptive.model import to_quality
from router_models.steady import ONCE, THRICE
from router_models.suite import RouterSuite
from router_models.training.calibrate import fit_calibration, fit_stacking
from router_models.training.checkpoint import Checkpoint
from router_models.training.dataset import RoutingData
from router_models.training.encoders import Progress, learns
from router_models.training.fit_pilots import FittedPilots, Measured, PilotOptions, fit_pilots
from router_models.training.refine import Refinement, refine
from router_models.training.train import (
    FittedPerceptive,
    TrainingOptions,
    TrainingReport,
    fit_perceptive,
)
from router_models.types import DataError


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """What was fitted; ``pilots`` is None without a retriever."""

    perceptive: TrainingReport
    refinement: Refinement
    pilots: dict[str, object] | None

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        refinement = asdict(self.refinement)
        return {**self.perceptive.to_json(), "refinement": refinement, "pilots": self.pilots}


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
    options, checkpoint = options or TrainingOptions(), checkpoint or Checkpoint()
    perceived = _perceive(data, options, progress, checkpoint)
    progress("refining", 0, 1)
    perceived, refinement = refine(perceived, options.loss, options.seed)
    progress("refining", 1, 1)
    target, honest = perceived.router.target, perceived.honest
    own = perceived.out_of_fold[honest]
    raw = {"perceptive": to_quality(own, target)}
    fitted, stacking = None, None
    if pilots is not None:
        progress("pilots", 0, 1)
        fitted = fit_pilots(_measured(data, perceived), pilots)
        progress("pilots", 1, 1)
    if fitted is not None and fitted.out_of_fold is not None:
        retrieved = fitted.out_of_fold[honest]
        stacking = fit_stacking(target, perceived.targets[honest], own, retrieved)
        raw["retriever"] = to_quality(retrieved, target)
        raw["ensemble"] = to_quality(stacking.mix(own, retrieved), target)
    told, folds = data.take(honest), perceived.evidence.folds[honest]
    suite = RouterSuite(
        perceived.router,
        None if fitted is None else fitted.router,
        stacking,
        {
            kind: fit_calibration(told.models, quality, told.scores, told.tasks, folds)
            for kind, quality in raw.items()
        },
        # A sentence encoder takes as long for every reading.
        THRICE if options.steady and not is_slow(perceived.router.encoder) else ONCE,
    )
    pilots_told = None if fitted is None else _told(fitted)
    return suite, SuiteReport(perceived.report, refinement, pilots_told)


def _perceive(
    data: RoutingData, options: TrainingOptions, progress: Progress, checkpoint: Checkpoint
) -> FittedPerceptive:
    """Fit the perceptive router; an encoder that learns is trained where torch is installed."""
    if not learns(options.encoder):
        return fit_perceptive(data, options, progress, checkpoint)
    try:
        # By name, for nothing that serves may import torch, not even indirectly.
        finetune = importlib.import_module("router_models.finetune.fit")
    except ImportError as error:
        raise DataError(
            f"--encoder {options.encoder} needs {error.name}, which is not installed: see "
            "'Training the embedded models again' in CONTRIBUTING.md for the extra train"
        ) from error
    fitted: FittedPerceptive = finetune.fit_finetuned(data, options, progress, checkpoint)
    return fitted


def _measured(data: RoutingData, perceived: FittedPerceptive) -> Measured:
    return Measured(
        data=data,
        target=perceived.router.target,
        encoder=perceived.router.encoder,
        x=perceived.evidence.x.first_columns(perceived.router.encoder.word_rows),
        targets=perceived.targets,
        folds=perceived.evidence.folds,
        honest=perceived.honest,
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
