"""From a router's raw quality to what was measured where it said so.

A map turns predicted quality into the mean score of the prompts that were predicted alike
(isotonic regression; Zadrozny and Elkan, KDD 2002). It rises strictly, so that a map shared by all
models never changes a choice; models have maps of their own where that does not cost routing.

The interval is for a mean, not for one answer: nine times in ten, the mean score of ``GROUP``
prompts like this one lies inside. One answer that is right or wrong can lie in no useful interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.types import Estimates, Vector

Matrix = NDArray[np.float64]

#: Points of a map, evenly over [0, 1]; between them it is linear.
POINTS = 129
#: Prompts whose mean the interval is for.
GROUP = 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """``maps`` has shape (models, POINTS), ``shared`` (POINTS,): quality at evenly spaced raw values.

    ``error_low`` and ``error_high``, (models,), bound the group's mean minus its prediction, in
    units of ``spread``.
    """

    models: tuple[str, ...]
    maps: Matrix
    shared: Vector
    error_low: Vector
    error_high: Vector

    def of(self, models: Sequence[str]) -> Calibration:
        """Arrange for these models; one that was not there in training gets the shared map."""
        position = {model: i for i, model in enumerate(self.models)}
        rows = [self.maps[position[m]] if m in position else self.shared for m in models]
        known = [position.get(m) for m in models]

        def ends(own: Vector, widest: float) -> Vector:
            return np.array([widest if i is None else own[i] for i in known])

        return Calibration(
            tuple(models),
            np.array(rows),
            self.shared,
            ends(self.error_low, float(self.error_low.min())),
            ends(self.error_high, float(self.error_high.max())),
        )

    def quality(self, raw: Matrix) -> Matrix:
        """Map raw quality of shape (..., models)."""
        return map_quality(self.maps, raw)

    def apply(self, estimates: Estimates) -> Estimates:
        """Calibrate estimates of the same models, and put the interval around them."""
        quality = self.quality(estimates.quality)
        width = spread(quality)
        return replace(
            estimates,
            quality=quality,
            quality_low=np.maximum(quality + self.error_low * width, 0.0),
            quality_high=np.minimum(quality + self.error_high * width, 1.0),
        )


def map_quality(maps: Matrix, raw: Matrix) -> Matrix:
    """Map raw quality of shape (..., models) by ``maps`` of shape (models, POINTS)."""
    place = np.clip(raw, 0.0, 1.0) * (POINTS - 1)
    below = np.minimum(place.astype(np.int64), POINTS - 2)
    share = place - below
    rows = np.arange(len(maps))
    return np.asarray(maps[rows, below] * (1.0 - share) + maps[rows, below + 1] * share)


def spread(quality: Matrix) -> Matrix:
    """The largest standard deviation of a score with this mean, kept off zero at the ends."""
    return np.asarray(np.sqrt(quality * (1.0 - quality) + 0.01))


def alike(quality: Vector, tasks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put prompts of one task with like predicted quality together, ``GROUP`` to a group.

    Returns the group of every prompt, (prompts,). What is left over at the end of a task is shared
    out over its groups.
    """
    order = np.lexsort((quality, tasks))
    groups = np.empty(len(order), np.int64)
    count = 0
    for task in np.unique(tasks):
        members = order[tasks[order] == task]
        for part in np.array_split(members, max(len(members) // GROUP, 1)):
            groups[part] = count
            count += 1
    return groups


def means_of(groups: NDArray[np.int64], values: Vector) -> Vector:
    """Return the mean of every group's values, (groups,)."""
    return np.asarray(np.bincount(groups, weights=values) / np.bincount(groups))


def arrays_of(calibrations: Mapping[str, Calibration]) -> dict[str, NDArray[np.float64]]:
    """Return what ``calibrations_of`` needs besides the models."""
    return {
        f"{kind}.{name}": getattr(calibration, name)
        for kind, calibration in calibrations.items()
        for name in ("maps", "shared", "error_low", "error_high")
    }


def calibrations_of(
    models: Mapping[str, Sequence[str]], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Calibration]:
    """Put calibrations together by kind. Raises KeyError, TypeError or ValueError on disagreement."""
    found = {}
    for kind, names in models.items():
        count = len(names)
        shapes = {
            "maps": (count, POINTS),
            "shared": (POINTS,),
            "error_low": (count,),
            "error_high": (count,),
        }
        own = {name: arrays[f"{kind}.{name}"] for name in shapes}
        for name, array in own.items():
            if array.shape != shapes[name] or array.dtype != np.float64:
                raise ValueError(f"array '{kind}.{name}' is {array.dtype}{array.shape}")
        for name in ("maps", "shared"):
            inside = own[name].min() >= 0 and own[name].max() <= 1
            if not inside or (np.diff(own[name], axis=-1) <= 0).any():
                raise ValueError(f"array '{kind}.{name}' does not rise within [0, 1]")
        found[kind] = Calibration(tuple(names), **own)
    return found
