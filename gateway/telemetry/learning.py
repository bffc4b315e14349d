"""Gauges of the loop that learns from traffic: when it last ran, on what, and what came of it."""

from __future__ import annotations

from math import nan

from gateway.telemetry.registry import Labelled, Registry
from gateway.telemetry.series import Gauge


class LearningGauges:
    """Every worker reads the same files, so the workers' numbers are one number, the largest."""

    def __init__(self, new: Registry) -> None:
        self.step_s = new.gauges(
            "learning_last_step_timestamp_seconds",
            "When a step of thalamus learn last ended so: ok, or failed; 0 for never",
            "result",
            merge="max",
        )
        self.every_s = new.gauges(
            "learning_step_every_seconds",
            "How often thalamus learn takes a step; nothing where it is run by hand",
            merge="max",
        )
        self.prompts = new.gauges(
            "learning_prompts",
            "Prompts with scores to learn from: in the decision log, or as thalamus collect wrote",
            "source",
            merge="max",
        )
        self.labels = new.gauges(
            "learning_labels",
            "Scores to learn from, by whose answers they are of",
            "model",
            "source",
            merge="max",
        )
        self.versions = new.gauges(
            "learning_versions",
            "Versions of the router by where they stand; promoted counts those before, too",
            "stage",
            merge="max",
        )
        self.gain = new.gauges(
            "learning_gain",
            "Score by which the version judged last beat the one in force, held out: mean, low, high",
            "bound",
            merge="max",
        )
        self.promoted_s = new.gauges(
            "learning_promoted_timestamp_seconds",
            "Since when the version in force has served",
            merge="max",
        )

    def forget(self) -> None:
        """Take everything out that was ever set: nothing is learnt any more."""
        gauges: tuple[Labelled[Gauge], ...] = (
            self.step_s, self.every_s, self.prompts, self.labels, self.versions, self.gain,
            self.promoted_s,
        )  # fmt: skip
        for metric in gauges:
            for series in metric:
                series.set(nan)
