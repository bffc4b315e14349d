"""What is added to a perceptive router's corrections once every model has its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from router_models.perceptive.model import PerceptiveRouter
from router_models.training.errors import error_bounds, mean_square
from router_models.training.low_rank import Skills, fit_skills
from router_models.training.ranking import Ranked, fit_ranking
from router_models.training.sparse import Floats
from router_models.training.train import FittedPerceptive, Loss, Matrix


@dataclass(frozen=True, slots=True)
class Refinement:
    """What was added; None stands for nothing, where held-out prompts were told no better.

    ``rank`` is the number of skills that models share; ``ranking_penalty`` how strongly the
    correction of their order is held back.
    """

    rank: int | None = None
    rank_penalty: float | None = None
    ranking_penalty: float | None = None
    ranking_loss: float | None = None
    ranking_loss_before: float | None = None


def refine(fitted: FittedPerceptive, loss: Loss, seed: int) -> tuple[FittedPerceptive, Refinement]:
    """Add what many models share, and with the loss ``ranking`` a correction of their order.

    Each is taken only where it does better on held-out folds. A router whose encoder learnt is left
    as it is.
    """
    if fitted.judged is not None:
        return fitted, Refinement()
    x, folds, targets = fitted.evidence.x, fitted.evidence.folds, fitted.targets
    posterior = fitted.evidence.posterior
    skills = fit_skills(x, posterior, targets, fitted.out_of_fold, folds, seed)
    if skills is not None:
        fitted = _with_skills(fitted, skills)
    ranked: Ranked | None = None
    if loss == "ranking":
        is_score = fitted.router.target == "score"
        predicted = fitted.out_of_fold
        ranked = fit_ranking(x, targets, predicted, folds, higher_is_better=is_score)
    if ranked is not None:
        corrections = _corrections(fitted.router) + ranked.weights
        fitted = _with(fitted, corrections, fitted.out_of_fold + ranked.out_of_fold)
    return fitted, Refinement(
        rank=None if skills is None else skills.rank,
        rank_penalty=None if skills is None else skills.penalty,
        ranking_penalty=None if ranked is None else ranked.penalty,
        ranking_loss=None if ranked is None else ranked.loss,
        ranking_loss_before=None if ranked is None else ranked.loss_before,
    )


def _with_skills(fitted: FittedPerceptive, skills: Skills) -> FittedPerceptive:
    """Put the skills in the place of every model's own departures."""
    head = fitted.router.outcome
    shared = _corrections(fitted.router).mean(axis=1, keepdims=True)
    offsets = head.offsets.mean(axis=1, keepdims=True) + skills.offsets
    level = fitted.out_of_fold.mean(axis=1, keepdims=True)
    fitted = replace(fitted, router=replace(fitted.router, outcome=replace(head, offsets=offsets)))
    return _with(fitted, shared + skills.weights, level + skills.out_of_fold)


def _corrections(router: PerceptiveRouter) -> Floats:
    tasks, models = len(router.tasks), len(router.models)
    return router.table[:, tasks : tasks + models]


def _with(fitted: FittedPerceptive, corrections: Floats, out_of_fold: Matrix) -> FittedPerceptive:
    """Put other corrections into the table, and what they say of held-out prompts beside it."""
    router = fitted.router
    tasks, models = len(router.tasks), len(router.models)
    table = router.table.copy()
    table[:, tasks : tasks + models] = corrections
    # As an artifact keeps it, so that saving changes no prediction.
    table = table.astype(np.float16).astype(np.float32)
    low, high = error_bounds(fitted.targets - out_of_fold)
    return replace(
        fitted,
        router=replace(router, table=table, error_low=low, error_high=high),
        report=replace(fitted.report, squared_error=mean_square(fitted.targets - out_of_fold)),
        out_of_fold=out_of_fold,
    )
