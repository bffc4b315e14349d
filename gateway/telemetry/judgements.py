"""Metrics of how right the router is: scores against predictions, prompts unlike any, the shadow."""

from __future__ import annotations

from gateway.telemetry.registry import Registry

#: Tenths of predicted quality, by their lower ends.
TENTHS = tuple(f"{tenth / 10:.1f}" for tenth in range(10))
_NEARNESS_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))


class Judgements:
    """Series begin at zero, so that a rate sees their first step."""

    def __init__(self, new: Registry) -> None:
        self.feedback = new.counters("feedback_total", "Answers that a client scored", "model")
        self.calibration_error = new.gauges(
            "calibration_error",
            "Mean predicted quality less mean score of the answers scored, without its sign",
            "model",
            merge="max",
        )
        self._answers = new.counters(
            "scored_answers_total",
            "Answers scored, by the tenth of their predicted quality",
            "tenth",
        )
        self._predicted = new.counters(
            "scored_predicted_total", "Sum of their predicted qualities", "tenth"
        )
        self._scores = new.counters("scored_score_total", "Sum of their first scores", "tenth")
        self.nearness = new.histogram(
            "prompt_nearness",
            "How much of a prompt lies along the nearest one trained on, where that is looked at",
            _NEARNESS_BUCKETS,
        )
        shadow = new.counters(
            "shadow_choices_total",
            "What the shadow policy would have chosen: the same model, another, or none feasible",
            "result",
        )
        self._shadow = {result: shadow.labels(result) for result in ("same", "other", "infeasible")}
        for tenth in TENTHS:
            for metric in (self._answers, self._predicted, self._scores):
                metric.labels(tenth)

    def note_first_score(self, model: str, predicted: float, score: float) -> None:
        """Take the first score of an answer; later ones change only the calibration error."""
        self.feedback.labels(model).inc()
        tenth = TENTHS[min(9, max(0, int(predicted * 10)))]
        self._answers.labels(tenth).inc()
        self._predicted.labels(tenth).inc(predicted)
        self._scores.labels(tenth).inc(score)

    def note_shadow(self, shadow: str | None, chosen: str) -> None:
        """Take what the shadow policy would have chosen, None for nobody, and what was chosen."""
        result = "infeasible" if shadow is None else "same" if shadow == chosen else "other"
        self._shadow[result].inc()
