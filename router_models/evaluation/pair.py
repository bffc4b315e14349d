"""RouteLLM's metrics of a router between a weak and a strong model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.bootstrap import Interval, Resamples, interval_of
from router_models.evaluation.metrics import apgr, cpt, deferral_curve
from router_models.evaluation.report import PairRow
from router_models.training.dataset import RoutingData

Matrix = NDArray[np.float64]
_Curve = tuple[NDArray[np.float64], NDArray[np.float64], float, float]


def pair_row(policy: str, data: RoutingData, preference: Matrix, seed: int) -> PairRow | None:
    """Compare two models on the prompts that both were measured on; None where they score alike.

    ``preference`` (prompts, 2) is what the policy thinks of either, on any one scale.

    The strong model is the one with the higher mean score.
    """
    both = np.flatnonzero(~np.isnan(data.scores).any(axis=1))
    scores, preferred = data.scores[both], preference[both]
    means = scores.mean(axis=0) if both.size else np.zeros(2)
    if means[0] == means[1]:
        return None
    strong = int(means.argmax())
    margin = preferred[:, strong] - preferred[:, 1 - strong]

    def curve(drawn: NDArray[np.int64]) -> _Curve:
        weak_scores, strong_scores = scores[drawn, 1 - strong], scores[drawn, strong]
        shares, accuracies = deferral_curve(margin[drawn], weak_scores, strong_scores)
        return shares, accuracies, float(weak_scores.mean()), float(strong_scores.mean())

    curves = [curve(drawn) for drawn in Resamples.draw(len(both), seed).drawn()]

    def over(values: list[float]) -> Interval:
        return interval_of(np.array(values))

    shares, accuracies, weak, best = curves[0]
    return PairRow(
        policy=policy,
        weak=data.models[1 - strong],
        strong=data.models[strong],
        apgr=over([apgr(*c) for c in curves]),
        cpt50=over([cpt(c[0], c[1], 0.5, weak=c[2], strong=c[3]) for c in curves]),
        cpt80=over([cpt(c[0], c[1], 0.8, weak=c[2], strong=c[3]) for c in curves]),
        cpt50_compat=cpt(shares, accuracies, 0.5, weak=weak, strong=best, variant="compat"),
        cpt80_compat=cpt(shares, accuracies, 0.8, weak=weak, strong=best, variant="compat"),
        curve=tuple(zip(shares.tolist(), accuracies.tolist(), strict=True)),
    )
