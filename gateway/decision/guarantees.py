"""The flag ``guarantee``: from what a caller asks to the threshold that keeps the promise."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import get_args

import msgspec

from gateway.errors import UNREADABLE_JSON, ConfigError, InvalidRequest
from gateway.settings import Config, Model
from policies.guarantee import Outcomes, calibrate
from policies.types import Guarantee, RouterName, RoutingFlags


class Guarantees:
    """Calibration outcomes, and the thresholds that were worked out from them.

    Models are asked in the order of their price for output, the cheapest first; among equal prices
    the one with fewer parameters, then by name.
    """

    def __init__(
        self, outcomes: Outcomes | None, config: Config, router: RouterName = "perceptive"
    ) -> None:
        self._outcomes = outcomes
        self._router = router
        known = () if outcomes is None else outcomes.models
        self._order = sorted(
            (name for name in config.models if name in known),
            key=lambda name: (*_rung(config.models[name]), name),
        )
        self._threshold = lru_cache(maxsize=1024)(self._work_out)

    def resolve(self, flags: RoutingFlags) -> RoutingFlags:
        """Fill in the order and the threshold of a guarantee over the models the caller allows.

        Raises InvalidRequest when the gateway has nothing to calibrate on.
        """
        asked = flags.guarantee
        if asked is None:
            return flags
        if self._outcomes is None:
            raise InvalidRequest(
                "routing.guarantee cannot be given: no router.calibration is configured",
                param="routing.guarantee",
            )
        if flags.router != self._router:
            raise InvalidRequest(
                f"routing.guarantee was calibrated for the {self._router} router, "
                f"not for the {flags.router} one",
                param="routing.router",
            )
        order = self._permitted(flags.allow, flags.deny)
        threshold = self._threshold(order, asked.risk, asked.confidence)
        promise = Guarantee(asked.risk, asked.confidence, order, threshold)
        return replace(flags, guarantee=promise)

    def _permitted(self, allow: Collection[str] | None, deny: Collection[str]) -> tuple[str, ...]:
        return tuple(
            name for name in self._order if (allow is None or name in allow) and name not in deny
        )

    def _work_out(self, order: tuple[str, ...], risk: float, confidence: float) -> float | None:
        if self._outcomes is None or not order:
            return None
        return calibrate(self._outcomes.of(order), risk, confidence)


class _CalibrationFile(msgspec.Struct):
    models: tuple[str, ...]
    predicted: tuple[tuple[float, ...], ...]
    failed: tuple[tuple[bool, ...], ...]
    router_version: str


def open_guarantees(config: Config, version_of: Callable[[str], str]) -> Guarantees:
    """Read the configured calibration; ``version_of`` tells the version of each kind of router.

    Raises ConfigError as ``load_outcomes`` does.
    """
    kinds: dict[str, RouterName] = {version_of(kind): kind for kind in get_args(RouterName)}
    found = load_outcomes(config.router.calibration, tuple(kinds))
    if found is None:
        return Guarantees(None, config)
    outcomes, version = found
    return Guarantees(outcomes, config, kinds[version])


def load_outcomes(
    path: Path | None, router_versions: Collection[str]
) -> tuple[Outcomes, str] | None:
    """Read what ``thalamus calibrate`` wrote, and the version of the router it was made with.

    Raises ConfigError when it is not that, or when another router's predictions are in it: a
    threshold holds only for the predictor it was found with.
    """
    if path is None:
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_CalibrationFile)
    except OSError as error:
        raise ConfigError(f"router.calibration: cannot read {path}: {error.strerror}") from error
    except UNREADABLE_JSON as error:
        raise ConfigError(f"router.calibration: {path}: {error}") from error
    if found.router_version not in router_versions:
        raise ConfigError(
            f"router.calibration: {path} was made with router {found.router_version}, "
            f"not with {', '.join(router_versions)}; run thalamus calibrate again"
        )
    width = len(found.models)
    rows = (*found.predicted, *found.failed)
    if len(found.predicted) != len(found.failed) or any(len(row) != width for row in rows):
        raise ConfigError(f"router.calibration: {path}: rows and models do not match")
    return Outcomes(found.models, found.predicted, found.failed), found.router_version


def _rung(model: Model) -> tuple[float, float]:
    price = model.price_usd_per_mtok
    return (
        inf if price is None else price.output,
        inf if model.parameters_b is None else model.parameters_b,
    )
