"""What another policy would have earned, estimated from logged choices whose chances are known.

IPS weighs each logged reward by how much likelier the other policy makes that choice; SNIPS divides
by the sum of those weights instead of their number; the doubly robust estimate (Dudík et al., 2011)
starts from what was predicted and weighs only the error of the prediction. IPS and DR are unbiased
where every choice of the other policy had a chance to be logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Sample:
    """One logged choice and what it earned.

    ``logged`` and ``target`` are the chances of each model under the policy that chose and the one
    in question; ``predicted`` is the reward that was expected of each, None where it is not known.
    """

    chosen: str
    reward: float
    logged: Mapping[str, float]
    target: Mapping[str, float]
    predicted: Mapping[str, float] | None = None

    @property
    def weight(self) -> float:
        return self.target.get(self.chosen, 0.0) / self.logged[self.chosen]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """What ``samples`` choices say of the other policy's mean reward.

    ``effective_samples`` is the number of unweighted ones that would say as much (Kish).
    ``unsupported`` is the share of the other policy's choices that the log could never have made:
    there IPS and SNIPS see nothing, and DR relies on predictions. An estimate is None where nothing
    supports it.
    """

    samples: int
    effective_samples: float
    unsupported: float
    logged: Interval | None
    ips: Interval | None
    snips: Interval | None
    dr: Interval | None


def estimate(samples: Sequence[Sample], confidence: float = 0.95) -> OffPolicyEstimate:
    """Estimate the mean reward with normal intervals; two samples at least are needed for one."""
    weights = [sample.weight for sample in samples]
    squares = fsum(w * w for w in weights)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2)
    return OffPolicyEstimate(
        samples=len(samples),
        effective_samples=fsum(weights) ** 2 / squares if squares else 0.0,
        unsupported=_unsupported(samples),
        logged=_mean([s.reward for s in samples], reach),
        ips=_mean([w * s.reward for w, s in zip(weights, samples, strict=True)], reach)
        if squares
        else None,
        snips=_self_normalised(samples, weights, reach) if squares else None,
        dr=_doubly_robust(samples, weights, reach),
    )


def _mean(values: Sequence[float], reach: float) -> Interval | None:
    if len(values) < 2:
        return None
    mean = fsum(values) / len(values)
    variance = fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    half = reach * sqrt(variance / len(values))
    return Interval(mean, mean - half, mean + half)


def _self_normalised(
    samples: Sequence[Sample], weights: Sequence[float], reach: float
) -> Interval | None:
    if len(samples) < 2:
        return None
    whole = fsum(weights)
    mean = fsum(w * s.reward for w, s in zip(weights, samples, strict=True)) / whole
    # The delta method for a ratio of two means.
    spread = fsum((w * (s.reward - mean)) ** 2 for w, s in zip(weights, samples, strict=True))
    half = reach * sqrt(spread) / whole
    return Interval(mean, mean - half, mean + half)


def _doubly_robust(
    samples: Sequence[Sample], weights: Sequence[float], reach: float
) -> Interval | None:
    terms = []
    for sample, weight in zip(samples, weights, strict=True):
        predicted = sample.predicted
        if predicted is None:
            return None
        expected = fsum(chance * predicted[model] for model, chance in sample.target.items())
        terms.append(expected + weight * (sample.reward - predicted[sample.chosen]))
    return _mean(terms, reach)


def _unsupported(samples: Sequence[Sample]) -> float:
    if not samples:
        return 0.0
    lost = fsum(
        chance
        for sample in samples
        for model, chance in sample.target.items()
        if not sample.logged.get(model)
    )
    return lost / len(samples)
