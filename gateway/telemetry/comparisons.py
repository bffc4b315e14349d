"""Counters of what was chosen against what could have been: the baselines, and each model alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.telemetry.registry import Registry

#: What a router is compared with, from its own predictions for the same prompt.
BASELINES = ("always_best", "always_cheapest", "random")
#: Each model alone is added up for one request in so many, the first one included: it takes as
#: long as there are models, and a mean needs no more.
EVERY = 8


class Alternative(Protocol):
    """A model that could have answered, and what is predicted of it."""

    @property
    def model(self) -> str: ...
    @property
    def quality(self) -> float: ...
    @property
    def cost_usd(self) -> float | None: ...


class Comparisons:
    """All sums are of predictions for the same requests, so that their means can be compared."""

    def __init__(self, new: Registry) -> None:
        self.compared = new.counter(
            "compared_requests_total", "Requests whose choice was compared with the baselines"
        )
        self.compared_cost_usd = new.counter(
            "compared_cost_usd_total", "Predicted cost of the models that served these requests"
        )
        self.compared_quality = new.counter(
            "compared_quality_total", "Predicted quality of the models that served these requests"
        )
        self._declare_baselines(new)
        alone = ("alternative", f"each model alone, for one compared request in {EVERY}")
        self._alone_requests = new.counters(
            f"{alone[0]}_requests_total", f"Requests that {alone[1]}, could have answered", "model"
        )
        self._alone_cost_usd = new.counters(
            f"{alone[0]}_cost_usd_total", f"Predicted cost of {alone[1]}", "model"
        )
        self._alone_quality = new.counters(
            f"{alone[0]}_quality_total", f"Predicted quality of {alone[1]}", "model"
        )
        self._until_alone = 0

    def know(self, model: str) -> None:
        """Begin the series of a model at zero."""
        for metric in (self._alone_requests, self._alone_cost_usd, self._alone_quality):
            metric.labels(model)

    def _declare_baselines(self, new: Registry) -> None:
        self.cost_saved_usd = new.counters(
            "cost_saved_usd_total", "Predicted cost below the baseline's, where below", "baseline"
        )
        self.cost_added_usd = new.counters(
            "cost_added_usd_total", "Predicted cost above the baseline's, where above", "baseline"
        )
        self.cost_saved_squares = new.counters(
            "cost_saved_usd_squares_total",
            "Squares of the differences in predicted cost, for intervals",
            "baseline",
        )
        self.quality_gained = new.counters(
            "quality_gained_total",
            "Predicted quality above the baseline's, where above",
            "baseline",
        )
        self.quality_given_up = new.counters(
            "quality_given_up_total",
            "Predicted quality below the baseline's, where below",
            "baseline",
        )
        self._baselines = [
            tuple(
                metric.labels(baseline)
                for metric in (
                    self.cost_saved_usd,
                    self.cost_added_usd,
                    self.cost_saved_squares,
                    self.quality_gained,
                    self.quality_given_up,
                )
            )
            for baseline in BASELINES
        ]

    def note(
        self,
        served: Alternative,
        pool: Sequence[Alternative],
        differences: Sequence[tuple[float | None, float]],
    ) -> None:
        """Take a choice, who else was there, and how much dearer and better each baseline is."""
        self.compared.inc()
        self.compared_quality.inc(served.quality)
        if served.cost_usd is not None:
            self.compared_cost_usd.inc(served.cost_usd)
        for (saved, added, squares, gained, given_up), (usd, quality) in zip(
            self._baselines, differences, strict=True
        ):
            if usd is not None:
                (saved if usd > 0 else added).inc(abs(usd))
                squares.inc(usd * usd)
            (given_up if quality > 0 else gained).inc(abs(quality))
        if self._until_alone:
            self._until_alone -= 1
            return
        self._until_alone = EVERY - 1
        for other in pool:
            if other.cost_usd is not None:
                self._alone_requests.labels(other.model).inc()
                self._alone_cost_usd.labels(other.model).inc(other.cost_usd)
                self._alone_quality.labels(other.model).inc(other.quality)
