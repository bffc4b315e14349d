"""Ask the router model about a prompt, and go on without it when it fails."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.telemetry.metrics import Metrics
from router_models.artifact import load, resolve
from router_models.steady import SteadyRouter
from router_models.types import ArtifactError, Estimates, Router

_log = logging.getLogger(__name__)


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


def _prior(router: Router) -> Estimates:
    """What is expected of every model before a prompt is looked at, with all the doubt there is."""
    blank = router.score("")
    return replace(
        blank,
        quality_low=np.zeros_like(blank.quality),
        quality_high=np.ones_like(blank.quality),
    )


class Scorer:
    """The boundary around the router model: whatever it does, a request is answered.

    ``prior`` is what it expects of a prompt that it has not seen; None without a router.
    """

    def __init__(self, router: Router | None, metrics: Metrics) -> None:
        self._router = router
        self._metrics = metrics
        self.prior = None if router is None else _prior(router)

    @property
    def version(self) -> str:
        return self._router.version if self._router is not None else "none"

    def score(self, ask: str) -> Estimates | None:
        """Predict for one prompt; None when there is no router or it failed.

        Runs on the event loop: the router reads a bounded part of a prompt in well under 1 ms.
        """
        if self._router is None:
            return None
        try:
            estimates = self._router.score(ask)
            if not np.isfinite([estimates.quality, estimates.output_tokens]).all():
                raise ArithmeticError("a prediction is not finite")
            return estimates
        except Exception:
            # The one boundary where any failure of learned code turns into a degraded decision.
            _log.exception("the router failed on a prompt of %d characters", len(ask))
            self._metrics.scorer_failures.inc()
            return None
