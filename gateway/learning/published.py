"""What is known of the loop that learns, as metrics."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from math import nan
from typing import get_args

from gateway.decision.reload import PERIOD_S, stamp_of
from gateway.errors import ConfigError
from gateway.learning.steps import Labels, StepReport, read_report, report_path
from gateway.learning.versions import History, Stage, VersionStore
from gateway.learning_settings import Learning
from gateway.telemetry.learning import LearningGauges

_log = logging.getLogger(__name__)

#: Labels of models that this gateway does not have: their names are anybody's.
OTHER_MODELS = "other"


async def watch_learning(
    section: Learning,
    models: Collection[str],
    gauges: LearningGauges,
    period_s: float = PERIOD_S,
) -> None:
    """Publish what the learner left in its folder whenever that changes; runs for ever.

    What cannot be read is logged once and changes nothing. Files are read in a thread.
    """
    store = VersionStore(section.folder)
    paths = (store.state, report_path(section.folder))
    seen: object = ()
    while True:
        found = await asyncio.to_thread(lambda: tuple(map(stamp_of, paths)))
        if found != seen:
            seen = found
            try:
                history = await asyncio.to_thread(store.read)
                report = await asyncio.to_thread(read_report, section.folder)
            except ConfigError as error:
                _log.error("what was learnt is not shown: %s", error)
            else:
                _publish_history(gauges, history)
                if report is not None:
                    _publish_report(gauges, report, models)
        await asyncio.sleep(period_s)


def _publish_history(gauges: LearningGauges, history: History) -> None:
    stages = Counter(version.stage for version in history.versions)
    for stage in get_args(Stage):
        gauges.versions.labels(stage).set(stages[stage])
    serving = history.serving
    if serving is not None and serving.promoted_s is not None:
        gauges.promoted_s.labels().set(serving.promoted_s)
    judged = [v.metrics for v in history.versions if v.metrics.difference is not None]
    if judged:
        found = judged[-1]
        for bound, value in (
            ("mean", found.difference),
            ("low", found.difference_low),
            ("high", found.difference_high),
        ):
            gauges.gain.labels(bound).set(nan if value is None else value)


def _publish_report(gauges: LearningGauges, report: StepReport, models: Collection[str]) -> None:
    gauges.step_s.labels("ok").set(report.good_s or 0.0)
    gauges.step_s.labels("failed").set(report.failed_s or 0.0)
    gauges.every_s.labels().set(nan if report.every_s is None else report.every_s)
    for source, labels in (("log", report.logged), ("measured", report.measured)):
        gauges.prompts.labels(source).set(labels.prompts)
        for model, count in _by_known(labels, models).items():
            gauges.labels.labels(model, source).set(count)


def _by_known(labels: Labels, models: Collection[str]) -> Counter[str]:
    """Every model's own, with nought where there are none; those of strangers together."""
    counted = Counter(dict.fromkeys(models, 0))
    for model, count in labels.by_model.items():
        counted[model if model in models else OTHER_MODELS] += count
    return counted
