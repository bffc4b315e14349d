"""Ask the router model about a prompt, and go on without it when it fails."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from gateway.errors import ConfigError
from gateway.settings import Config
from gateway.telemetry.metrics import Metrics
from router_models.artifact import MANIFEST, load_suite, resolve
from router_models.encoders.storage import is_slow
from router_models.retriever.model import Neighbour, RetrieverRouter
from router_models.suite import DEFAULT_KIND
from router_models.types import ArtifactError, Estimates, Router

_log = logging.getLogger(__name__)

#: Quality of a model that nothing is known of, and the whole scale as its interval.
UNKNOWN_QUALITY = 0.5
#: Output tokens assumed where no router predicts them and the caller sets no limit.
UNKNOWN_OUTPUT_TOKENS = 256.0
#: Asks whose predictions are kept. An agent's loop and a chat ask the same thing many times over.
KEPT_ASKS = 1024
#: Longer asks are not kept, so that what is kept stays a few megabytes.
LONGEST_KEPT_ASK = 4_000


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """What is expected of one model; see ``router_models.types.Estimates``."""

    quality: float
    quality_low: float
    quality_high: float
    output_tokens: float


class Predictions(msgspec.Struct, frozen=True):
    """The estimates for one prompt by model; what the router never saw gets the widest doubt.

    ``router`` is who made them: perceptive, retriever or ensemble. ``nearness`` and ``is_far`` are as
    in ``router_models.types.Estimates``.
    """

    by_model: Mapping[str, Prediction]
    unseen: Prediction
    router: str = "none"
    nearness: float | None = None
    is_far: bool = False

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


class LoadedRouters(msgspec.Struct, frozen=True):
    """An artifact's routers by kind, none where none is configured, and its pilots, if any.

    ``is_slow`` says that reading a prompt takes milliseconds of a core."""

    by_kind: Mapping[str, Router] = {}
    pilots: RetrieverRouter | None = None
    is_slow: bool = False

    def version(self, kind: str = DEFAULT_KIND) -> str:
        """Return the version of a router; ``none`` where there is no such router."""
        router = self.by_kind.get(kind)
        return "none" if router is None else router.version


def artifact_folder(config: Config) -> Path | None:
    """Where routers are read from: what learning promoted, else what is configured, None for none."""
    if config.learning is not None and config.learning.active.is_symlink():
        return config.learning.active.resolve()  # one version, whatever is promoted meanwhile
    return None if config.router.artifact == "none" else resolve(config.router.artifact)


def load_routers(config: Config) -> LoadedRouters:
    """Load the artifact in force.

    Raises ConfigError with the artifact's own reason when it cannot be trusted.
    """
    folder = artifact_folder(config)
    if folder is None:
        return LoadedRouters()
    try:
        suite = load_suite(folder)
    except ArtifactError as error:
        raise ConfigError(f"router.artifact: {error}") from error
    _check_manifest(folder / MANIFEST, config.router.sha256)
    if config.router.steady:
        suite = suite.steadied()
    routers: dict[str, Router] = {kind: suite.named(kind) for kind in suite.kinds}
    known = {model for router in routers.values() for model in router.models}
    idle = sorted(known - set(config.models))
    if idle:
        _log.info("the router knows models that are not configured: %s", ", ".join(idle))
    return LoadedRouters(routers, suite.retriever, is_slow(suite.perceptive.encoder))


def _check_manifest(manifest: Path, expected: str | None) -> None:
    """Hold an artifact to the one that was meant; its manifest names the sums of all its files."""
    if expected is None:
        return
    found = hashlib.sha256(manifest.read_bytes()).hexdigest()
    if found != expected:
        raise ConfigError(f"router.sha256: {manifest} has {found}, not the one configured")


def by_model(
    estimates: Estimates, router: str = DEFAULT_KIND, *, with_intervals: bool = True
) -> Predictions:
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
        router,
        estimates.nearness,
        estimates.is_far and with_intervals,
    )


class Scorer:
    """The boundary around the router model: whatever it does, a request is answered.

    ``prior`` is what it expects of a prompt that it has not seen, with all the doubt there is.
    """

    def __init__(self, routers: LoadedRouters, metrics: Metrics) -> None:
        self._metrics = metrics
        self._kept: OrderedDict[tuple[str, str], Predictions] = OrderedDict()
        self.adopt(routers)

    def adopt(self, routers: LoadedRouters) -> None:
        """Ask these routers from now on."""
        router = routers.by_kind.get(DEFAULT_KIND)
        prior = (
            NO_PREDICTIONS if router is None else by_model(router.score(""), with_intervals=False)
        )
        self.routers = routers
        self.prior = prior
        self._kept.clear()

    @property
    def is_slow(self) -> bool:
        """Whether scoring takes long enough to be done outside the event loop."""
        return self.routers.is_slow

    def version(self, kind: str = DEFAULT_KIND) -> str:
        return self.routers.version(kind)

    def score(self, ask: str, kind: str = DEFAULT_KIND) -> Predictions:
        """Predict for one prompt, by the perceptive router where there is none of that kind.

        NO_PREDICTIONS when there is no router or it failed. Runs on the event loop, for the router
        reads a bounded part of a prompt in well under 1 ms; if it ``is_slow``, in a thread.
        """
        router = self.routers.by_kind.get(kind)
        if router is None:
            kind = DEFAULT_KIND
            router = self.routers.by_kind.get(kind)
            if router is None:
                return NO_PREDICTIONS
        kept = self._kept.get((kind, ask))
        if kept is not None:
            with suppress(KeyError):  # another thread may just have let go of it
                self._kept.move_to_end((kind, ask))
            return kept
        try:
            predictions = by_model(router.score(ask), kind)
        except Exception:
            # The one boundary where any failure of learned code turns into a degraded decision.
            _log.exception("the router failed on a prompt of %d characters", len(ask))
            self._metrics.scorer_failures.inc()
            return NO_PREDICTIONS
        if len(ask) <= LONGEST_KEPT_ASK:
            self._kept[kind, ask] = predictions
            if len(self._kept) > KEPT_ASKS:
                with suppress(KeyError):
                    self._kept.popitem(last=False)
        return predictions

    def neighbours(self, ask: str) -> tuple[Neighbour, ...]:
        """Return the pilots nearest to a prompt; none where there are no pilots."""
        pilots = self.routers.pilots
        return () if pilots is None else pilots.explain(ask)
