"""All routers of one artifact: they share an encoder, and a prompt is read once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from router_models.calibration import Calibration
from router_models.encoders import Rows, Weights
from router_models.ensemble import Stacking, widen
from router_models.perceptive.model import PerceptiveRouter
from router_models.prompt_text import clip
from router_models.retriever.model import RetrieverRouter
from router_models.steady import ONCE, SKIPPED, median_of, starts_of
from router_models.types import DataError, Estimates, Router

Matrix = NDArray[np.float64]

Kind = Literal["perceptive", "retriever", "ensemble"]
DEFAULT_KIND: Kind = "perceptive"


@dataclass(frozen=True, slots=True)
class RouterSuite:
    """``retriever`` is None where an artifact was trained without pilots.

    ``stacking`` is None where there is no ensemble; ``calibrations`` are by kind, and a router
    without one answers as it is. ``skipped`` are the shares of a prompt's words that its readings
    leave out, see ``router_models.steady``.
    """

    perceptive: PerceptiveRouter
    retriever: RetrieverRouter | None = None
    stacking: Stacking | None = None
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    skipped: tuple[float, ...] = ONCE
    _arranged: Mapping[str, Calibration] = field(init=False, repr=False, compare=False)
    _expected: dict[str, Estimates] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        arranged = {
            kind: calibration.of(self.models_of(kind))
            for kind, calibration in self.calibrations.items()
            if kind in self.kinds
        }
        object.__setattr__(self, "_arranged", arranged)
        object.__setattr__(self, "_expected", {})
        for kind in self.kinds:
            self._expected[kind] = self._read(kind, *self.perceptive.encoder.encode(""))

    @property
    def version(self) -> str:
        return self.perceptive.version

    @property
    def models(self) -> tuple[str, ...]:
        return self.models_of(DEFAULT_KIND)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The routers that there are."""
        if self.retriever is None:
            return ("perceptive",)
        if self.stacking is None:
            return ("perceptive", "retriever")
        return ("perceptive", "retriever", "ensemble")

    def models_of(self, kind: str) -> tuple[str, ...]:
        """The models that a router knows: those of the pilots, for the ensemble."""
        if kind == "perceptive" or self.retriever is None:
            return self.perceptive.models
        return self.retriever.models

    def score(self, prompt: str, kind: str = DEFAULT_KIND) -> Estimates:
        """Predict by one of ``kinds``, from the median of all readings.

        Of a prompt that is far from all pilots nothing is known: it gets what is expected of any
        prompt, the mean of every model, and the widest interval.
        """
        text = clip(prompt)
        starts = starts_of(text, self.skipped)
        whole, *tails = self.perceptive.encoder.encode_tails(text, starts)
        found = self._estimate(kind, *whole)
        if not tails or found.is_far:
            return found
        return median_of(found, self._qualities(kind, tails))

    def _qualities(self, kind: str, encoded: Sequence[tuple[Rows, Weights]]) -> Matrix:
        """Return the quality alone of some texts, (texts, models), at once where that is quicker.

        None of them falls back: that a part of a prompt is unlike any trained on says little.
        """
        if kind != "perceptive":
            return np.array([self._read(kind, *vector).quality for vector in encoded])
        quality = self.perceptive.qualities(encoded)
        calibration = self._arranged.get(kind)
        return quality if calibration is None else calibration.quality(quality)

    def _estimate(self, kind: str, rows: Rows, weights: Weights) -> Estimates:
        found = self._read(kind, rows, weights)
        if not self._is_far(found, kind, rows, weights):
            return found
        expected = self._expected[kind]
        unknown = np.zeros_like(expected.quality)
        return replace(
            expected,
            quality_low=unknown,
            quality_high=unknown + 1.0,
            nearness=found.nearness,
            is_far=True,
        )

    def _is_far(self, found: Estimates, kind: str, rows: Rows, weights: Weights) -> bool:
        """Whether a prompt is less than half as near as those trained on, or less near and disputed.

        Short prompts are always less near. Where both routers, which read them differently, would
        choose the same model all the same, their word stands.
        """
        nearness = found.nearness
        if nearness is None or self.retriever is None or nearness >= self.retriever.reach:
            return False
        if nearness < self.retriever.reach / 2:
            return True
        both = [
            found if kind == each else self._read(each, rows, weights)
            for each in ("perceptive", "retriever")
        ]
        best = {estimates.models[int(estimates.quality.argmax())] for estimates in both}
        return len(best) > 1

    def _read(self, kind: str, rows: Rows, weights: Weights) -> Estimates:
        if kind == "perceptive":
            found = self._calibrated(kind, self.perceptive.read(rows, weights))
            if self.retriever is None:
                return found
            return replace(found, nearness=self.retriever.nearness(rows, weights))
        if self.retriever is None:
            raise KeyError(kind)
        retrieved = self.retriever.read(rows, weights)
        if kind == "retriever":
            return self._calibrated(kind, retrieved)
        if self.stacking is None:
            raise KeyError(kind)
        perceived = self.perceptive.read(rows, weights)
        both = self._calibrated(kind, self.stacking.combine(perceived, retrieved))
        said = [
            _for_models(self._calibrated("perceptive", perceived), both),
            self._calibrated("retriever", retrieved).quality,
        ]
        return widen(both, said)

    def named(self, kind: str) -> Router:
        """Return one of the routers. Raises DataError naming those that there are."""
        if kind not in self.kinds:
            raise DataError(f"this artifact has no {kind} router; it has {', '.join(self.kinds)}")
        return OneRouter(self, kind)

    def steadied(self) -> RouterSuite:
        """Return the same routers, under a version of their own, reading a prompt five times."""
        steady = replace(self.perceptive, version=f"{self.version}-steady")
        return replace(self, perceptive=steady, skipped=SKIPPED)

    def _calibrated(self, kind: str, raw: Estimates) -> Estimates:
        calibration = self._arranged.get(kind)
        return raw if calibration is None else calibration.apply(raw)


@dataclass(frozen=True, slots=True)
class OneRouter:
    """One of a suite's routers, seen as a router."""

    suite: RouterSuite
    kind: str

    @property
    def models(self) -> tuple[str, ...]:
        return self.suite.models_of(self.kind)

    @property
    def version(self) -> str:
        version = self.suite.version
        return version if self.kind == DEFAULT_KIND else f"{version}-{self.kind}"

    def score(self, prompt: str) -> Estimates:
        return self.suite.score(prompt, self.kind)


def _for_models(own: Estimates, other: Estimates) -> NDArray[np.float64]:
    """Quality in the other's order; a model that is unknown here has the other's quality."""
    if own.models == other.models:
        return own.quality
    known = dict(zip(own.models, own.quality.tolist(), strict=True))
    return np.array(
        [
            known.get(model, quality)
            for model, quality in zip(other.models, other.quality.tolist(), strict=True)
        ]
    )
