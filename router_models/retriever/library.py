"""The pilot library: what is remembered of the prompts that models were measured on.

A pilot stands for prompts that are alike. RouterRetriever (arXiv 2409.02685) keeps a centroid for
every group and the expert that wins it; here a pilot also keeps how every model did and how sure
that is, and the few prompts nearest to its centroid, on which a new model can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_models.perceptive.model import Target
from router_models.types import DataError, Vector

Matrix = NDArray[np.float64]
Floats = NDArray[np.float32]

#: Prompts' worth of a typical spread that a pilot's own spread is held against.
_SPREAD_PRIOR = 2.0


class PilotPrompt(NamedTuple):
    """``offset`` is how far the models' outcomes on this prompt are, on average, from the pilot's.

    A new model is measured on few prompts; taking the offset from its outcomes tells how it compares
    with the others on the same prompts, not whether those happened to be easy (control variates).
    """

    prompt_id: str
    text: str
    offset: float


@dataclass(frozen=True, slots=True)
class ModelOutcomes:
    """How one model did on every pilot, each array of shape (pilots,).

    ``measured`` counts prompts; where it is 0 the other three are 0 as well. ``error`` is the
    standard error of ``mean``; ``log_tokens`` is the mean logarithm of the answers' length.
    """

    measured: Vector
    mean: Vector
    error: Vector
    log_tokens: Vector


@dataclass(frozen=True, slots=True)
class PilotLibrary:
    """``centroids`` (pilots, dimensions) have length 1; ``sizes`` (pilots,) count prompts.

    ``measured``, ``means``, ``errors`` and ``log_tokens`` have shape (pilots, models) as in
    ``ModelOutcomes``. ``priors`` and ``log_token_priors``, (models,), are means over all prompts.
    ``names`` tells each pilot's most frequent task, ``prompts`` its prompts, the most typical first.
    ``target`` says whether outcomes are losses in nats or scores.
    """

    models: tuple[str, ...]
    target: Target
    names: tuple[str, ...]
    prompts: tuple[tuple[PilotPrompt, ...], ...]
    centroids: Floats
    sizes: Vector
    measured: Matrix
    means: Matrix
    errors: Matrix
    log_tokens: Matrix
    priors: Vector
    log_token_priors: Vector

    def winners(self) -> NDArray[np.int64]:
        """Return the best model of every pilot, (pilots,): lowest mean loss or highest mean score."""
        worst = np.inf if self.target == "loss" else -np.inf
        known = np.where(self.measured > 0, self.means, worst)
        best = known.argmin(axis=1) if self.target == "loss" else known.argmax(axis=1)
        return np.asarray(best, np.int64)

    def with_model(self, name: str, outcomes: ModelOutcomes) -> PilotLibrary:
        """Add a column; nothing else changes. Raises DataError when the model is there already."""
        if name in self.models:
            raise DataError(f"the pilots know {name!r} already; remove it first")
        if not outcomes.measured.any():
            raise DataError(f"no stored pilot prompt has an outcome of {name!r}")
        # A pilot's mean speaks for all prompts of the pilot, however few were measured.
        share = np.where(outcomes.measured > 0, self.sizes, 0.0)
        share = share / share.sum()
        return replace(
            self,
            models=(*self.models, name),
            measured=np.column_stack([self.measured, outcomes.measured]),
            means=np.column_stack([self.means, outcomes.mean]),
            errors=np.column_stack([self.errors, outcomes.error]),
            log_tokens=np.column_stack([self.log_tokens, outcomes.log_tokens]),
            priors=np.append(self.priors, share @ outcomes.mean),
            log_token_priors=np.append(self.log_token_priors, share @ outcomes.log_tokens),
        )

    def without_model(self, name: str) -> PilotLibrary:
        """Delete a column. Raises DataError when the model is unknown or the last but one."""
        if name not in self.models:
            raise DataError(f"the pilots do not know {name!r}; there is {', '.join(self.models)}")
        if len(self.models) <= 2:
            raise DataError("two models are left; routing needs two or more")
        gone = self.models.index(name)
        return replace(
            self,
            models=tuple(m for m in self.models if m != name),
            measured=np.delete(self.measured, gone, axis=1),
            means=np.delete(self.means, gone, axis=1),
            errors=np.delete(self.errors, gone, axis=1),
            log_tokens=np.delete(self.log_tokens, gone, axis=1),
            priors=np.delete(self.priors, gone),
            log_token_priors=np.delete(self.log_token_priors, gone),
        )


def summarise(
    groups: NDArray[np.int64], count: int, outcomes: Vector, log_tokens: Vector
) -> ModelOutcomes:
    """Summarise one model's outcomes, (prompts,), by the pilot that every prompt belongs to.

    A NaN is an outcome that nobody measured. A pilot of few prompts borrows its spread from all:
    the variance over pilots counts for two prompts in it.
    """
    known = ~np.isnan(outcomes)
    own, y = groups[known], outcomes[known]
    measured = np.bincount(own, minlength=count).astype(np.float64)
    some = np.maximum(measured, 1.0)
    mean = np.bincount(own, weights=y, minlength=count) / some
    squares = np.bincount(own, weights=np.square(y - mean[own]), minlength=count)
    freedom = max(float(measured.sum() - (measured > 0).sum()), 1.0)
    typical = float(squares.sum()) / freedom or float(y.var()) if y.size else 0.0
    freedoms = np.maximum(measured - 1.0, 0.0)
    variance = (squares + _SPREAD_PRIOR * typical) / (freedoms + _SPREAD_PRIOR)
    told = ~np.isnan(log_tokens[known])
    lengths = np.where(told, log_tokens[known], 0.0)
    counted = np.bincount(own, weights=told, minlength=count)
    average = float(lengths.sum() / told.sum()) if told.any() else 0.0
    length = np.bincount(own, weights=lengths, minlength=count) + average
    return ModelOutcomes(
        measured,
        mean,
        np.where(measured > 0, np.sqrt(variance / some), 0.0),
        np.where(measured > 0, length / (counted + 1.0), 0.0),
    )
