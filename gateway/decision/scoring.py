"""Ask the router model about a prompt, and go on without it when it fails."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from gateway.errors import ConfigError
from gateway.settings import Config
from gateway.telemetry.metrics import Metrics
from router_models.artifact import load, resolve
from router_models.steady import SteadyRouter
from router_models.types import ArtifactError, Estimates, Router

_log = logging.getLogger(__name__)

#: Quality of a model that nothing is known of, and the whole scale as its interval.
UNKNOWN_QUALITY = 0.5
#: Output tokens assumed where no router predicts them and the caller sets no limit.
UNKNOWN_OUTPUT_TOKENS = 256.0
#: Asks whose predictions are kept. An agent's loop and a chat ask the same thing many times over.
KEPT_ASKS = 1024
#: Longer asks are not kept, so that what is kept stays a few megabytes.
_LONGEST_KEPT_ASK = 4_000


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """What is expected of one model; see ``router_models.types.Estimates``."""

    quality: float
    quality_low: float
    quality_high: float
    output_tokens: float


class Predictions(msgspec.Struct, frozen=True):
    """The estimates for one prompt by model; what the router never saw gets the widest doubt."""

    by_model: Mapping[str, Prediction]
    unseen: Prediction

    def of(self, model: str, quality_prior: float | None) -> Prediction:
        """Return the router's word on a model, or the mean of all, or what its operator expects."""
        known = self.by_model.get(model)
        if known is not None:
            return known
        if quality_prior is None:
            return self.unseen
        return Prediction(quality_prior, 0.0, 1.0, self.unseen.output_tokens)


#: Where there is no router, or it failed.
NO_PREDICTIONS = Predictions({}, Prediction(UNKNOWN_QUALITY, 0.0, 1.0, UNKNOWN_OUTPUT_TOKENS))


def load_router(config: Config) -> Router | None:
    """Load the router that the configuration names; None when it names none.

    Raises ConfigError with the artifact's own reason when it cannot be trusted.
    """
    if config.router.artifact == "none":
        return None
    folder: Path = resolve(config.router.artifact)
    try:
        artifact = load(folder)
    except ArtifactError as error:
        raise ConfigError(f"router.artifact: {error}") from error
    router: Router = SteadyRouter(artifact) if config.router.steady else artifact
    idle = sorted(set(router.models) - set(config.models))
    if idle:
        _log.info("the router knows models that are not configured: %s", ", ".join(idle))
    return router


def by_model(estimates: Estimates, *, with_intervals: bool = True) -> Predictions:
    """Lay arrays over models out as predictions of each.

    Raises ArithmeticError when a value is not finite.
    """
    columns = np.stack(
        [
            estimates.quality,
            estimates.quality_low if with_intervals else np.zeros_like(estimates.quality),
            estimates.quality_high if with_intervals else np.ones_like(estimates.quality),
            estimates.output_tokens,
        ],
        axis=1,
    )
    means = columns.mean(axis=0)
    if not np.isfinite(means).all():
        raise ArithmeticError("a prediction is not finite")
    rows = map(Prediction, *columns.T.tolist())
    quality, _, _, output_tokens = means.tolist()
    return Predictions(
        dict(zip(estimates.models, rows, strict=True)),
        Prediction(quality, 0.0, 1.0, output_tokens),
    )


class Scorer:
    """The boundary around the router model: whatever it does, a request is answered.

    ``prior`` is what it expects of a prompt that it has not seen, with all the doubt there is.
    """

    def __init__(self, router: Router | None, metrics: Metrics) -> None:
        self._router = router
        self._metrics = metrics
        self._kept: OrderedDict[str, Predictions] = OrderedDict()
        self.prior = (
            NO_PREDICTIONS if router is None else by_model(router.score(""), with_intervals=False)
        )

    @property
    def version(self) -> str:
        return self._router.version if self._router is not None else "none"

    def score(self, ask: str) -> Predictions:
        """Predict for one prompt; NO_PREDICTIONS when there is no router or it failed.

        Runs on the event loop: the router reads a bounded part of a prompt in well under 1 ms.
        """
        if self._router is None:
            return NO_PREDICTIONS
        kept = self._kept.get(ask)
        if kept is not None:
            self._kept.move_to_end(ask)
            return kept
        try:
            predictions = by_model(self._router.score(ask))
        except Exception:
            # The one boundary where any failure of learned code turns into a degraded decision.
            _log.exception("the router failed on a prompt of %d characters", len(ask))
            self._metrics.scorer_failures.inc()
            return NO_PREDICTIONS
        if len(ask) <= _LONGEST_KEPT_ASK:
            self._kept[ask] = predictions
            if len(self._kept) > KEPT_ASKS:
                self._kept.popitem(last=False)
        return predictions
