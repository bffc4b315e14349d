"""One round of learning: look at what is in shadow, or train a router, judge it and put it there.

It runs in a process of its own, beside any number of gateways: they share the decision log and the
folder of versions. Whatever stops it, the router in force stays.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import numpy as np

from gateway.decision.scoring import LoadedRouters
from gateway.errors import ConfigError, GatewayError
from gateway.learning.judgement import FEW_REQUESTS, Evidence, judge_on_log, judge_on_measured
from gateway.learning.outcomes import Outcome, logged_scores, read_outcomes
from gateway.learning.replayed import Chooser, as_logged, chooser_of, routers_at
from gateway.learning.steps import Labels, StepReport, read_report, write_report
from gateway.learning.versions import History, Measures, Stage, Version, VersionStore
from gateway.learning_settings import Learning
from gateway.settings import Config
from router_models.artifact import resolve, save
from router_models.suite import DEFAULT_KIND
from router_models.training.dataset import TRAIN, RoutingData, read_routing_data
from router_models.training.errors import COVERAGE
from router_models.training.fit_pilots import PilotOptions
from router_models.training.logged import complete
from router_models.training.suite import train_suite
from router_models.types import DataError

#: A router in shadow that so many times ``min_shadow`` requests neither confirm nor refute is dropped.
PATIENCE = 10


@dataclass(frozen=True, slots=True)
class Step:
    """What a round did: ``stage`` is where its version stands now, None where it only waits."""

    version: str | None
    stage: Stage | None
    reason: str

    def told(self) -> str:
        named = f"{self.version} is {self.stage}: " if self.version else ""
        return f"{named}{self.reason}"


class Learner:
    """Rounds over one configuration. ``clock_s`` tells seconds since the epoch.

    ``every_s`` is how often the caller takes one, None where it does not say; it is only told on.
    """

    def __init__(
        self,
        config: Config,
        clock_s: Callable[[], float] = time.time,
        every_s: float | None = None,
    ) -> None:
        """Raises ConfigError when there is nothing to learn from."""
        if config.learning is None:
            raise ConfigError("there is no section learning: add learning: {folder: DIR}")
        log = config.decision_log
        if (log is None or not log.prompts) and not config.learning.data:
            raise ConfigError(
                "there is nothing to learn from: set decision_log: {path: FILE, prompts: true}, "
                "or name measured outcomes under learning.data"
            )
        self._config = config
        self._section: Learning = config.learning
        self._clock_s = clock_s
        self._every_s = every_s
        #: What there was to learn from, as far as this round has read it.
        self._logged: Labels | None = None
        self._measured: Labels | None = None
        self.store = VersionStore(self._section.folder)

    def run_round(self) -> Step:
        """Take one step and leave a report of it.

        Raises ConfigError, LogUnreadable, DataError or ArtifactError. Another process that learns
        into the same folder is an error, too.
        """
        with self._alone():
            try:
                step = self._take_step()
            except (GatewayError, ValueError) as error:
                self._report(str(error), is_good=False)
                raise
            self._report(step.told(), is_good=True)
            return step

    def _take_step(self) -> Step:
        self._begin()
        now_s = self._clock_s()
        outcomes = self._read_log()
        history = self.store.read()
        if history.in_shadow is not None:
            return self._look_at_shadow(history, history.in_shadow, outcomes)
        if (left := _not_judged(history)) is not None:
            return self._judge(history, left, self._held_out(outcomes), self._read_measured())
        last_s = max((v.created_s for v in history.versions if v.train_prompts), default=0.0)
        fresh = sum(o.score is not None and o.record.at_s > last_s for o in outcomes)
        if fresh < self._section.min_scored and not self._has_new_data(last_s):
            wanted = self._section.min_scored
            return Step(None, None, f"waits: {fresh} newly scored requests of {wanted}")
        return self._train(history, outcomes, now_s)

    def _report(self, said: str, *, is_good: bool) -> None:
        """Leave what became of this round; what it did not read is as it was last."""
        before = read_report(self._section.folder) or StepReport(said="", is_good=True)
        ended = {"good_s" if is_good else "failed_s": self._clock_s()}
        report = msgspec.structs.replace(
            before,
            said=said,
            is_good=is_good,
            every_s=self._every_s,
            logged=self._logged or before.logged,
            measured=self._measured or before.measured,
            **ended,
        )
        write_report(self._section.folder, report)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = self._section.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "run.lock").open("a")
        except OSError as error:
            text = f"learning.folder: cannot write {folder}: {error.strerror}"
            raise ConfigError(text) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(f"another thalamus learn runs in {folder}") from error
            for left in folder.glob("new-*"):  # of a training that was killed
                shutil.rmtree(left, ignore_errors=True)
            yield

    def _begin(self) -> None:
        """Keep the router that serves as the first version, so that one can return to it."""
        history = self.store.read()
        if history.active is not None or self._config.router.artifact == "none":
            return
        source = resolve(self._config.router.artifact)
        version = routers_at(self._config, source).version()
        if all(v.id != version for v in history.versions):
            copy = self._section.folder / f"new-{secrets.token_hex(4)}"
            shutil.copytree(source, copy)
            reason = "served when learning began"
            self.store.keep(
                Version(id=version, created_s=self._clock_s(), stage="trained", reason=reason), copy
            )
        self.store.promote(version, "served when learning began", self._clock_s())

    def _read_log(self) -> list[Outcome]:
        log = self._config.decision_log
        outcomes = [] if log is None or not log.prompts else read_outcomes(log.path)
        scored = [o for o in outcomes if o.score is not None]
        by_model = Counter(o.record.served for o in scored)
        self._logged = Labels(len({o.prompt for o in scored}), dict(by_model))
        return outcomes

    def _has_new_data(self, since_s: float) -> bool:
        return any(path.stat().st_mtime > since_s for path in self._section.data if path.exists())

    def _read_measured(self) -> list[RoutingData]:
        measured = [read_routing_data(path) for path in self._section.data]
        by_model: Counter[str] = Counter()
        for data in measured:
            counts = np.count_nonzero(~np.isnan(data.scores), axis=0).tolist()
            by_model.update(dict(zip(data.models, counts, strict=True)))
        self._measured = Labels(sum(len(data.prompts) for data in measured), dict(by_model))
        return measured

    def _in_force(self, history: History) -> tuple[Chooser, LoadedRouters]:
        """The router that serves; where there is none, the predictions as logged."""
        if history.active is None:
            return as_logged, LoadedRouters()
        routers = routers_at(self._config, self.store.artifact(history.active))
        return chooser_of(self._config, routers), routers

    def _train(self, history: History, outcomes: Sequence[Outcome], now_s: float) -> Step:
        share = self._section.held_out
        taught = [o for o in outcomes if not o.is_held_out(share)]
        measured = self._read_measured()
        table = complete(logged_scores(taught), _training_rows(measured))
        pilots = PilotOptions() if self._section.router == "ensemble" else None
        suite, report = train_suite(table, pilots=pilots)
        place = self._section.folder / f"new-{secrets.token_hex(4)}"
        training = {
            **report.to_json(),
            "data_sha256": table.sha256,
            "interval_coverage": COVERAGE,
            "scored_requests": sum(o.score is not None for o in taught),
        }
        version_id = save(suite, place, training=training, metrics={}).version
        if any(v.id == version_id for v in history.versions):
            shutil.rmtree(place)
            return Step(None, None, f"waits: the data teach what version {version_id} knows")
        version = Version(
            id=version_id,
            created_s=now_s,
            stage="trained",
            reason="not judged yet",
            train_prompts=len(table.prompts),
        )
        self.store.keep(version, place)
        return self._judge(history, version, self._held_out(outcomes), measured)

    def _held_out(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        return [o for o in outcomes if o.is_held_out(self._section.held_out)]

    def _judge(
        self,
        history: History,
        version: Version,
        held_out: Sequence[Outcome],
        measured: Sequence[RoutingData],
    ) -> Step:
        """Hold a trained version against the router in force, on what neither was trained on."""
        current, serving = self._in_force(history)
        routers = routers_at(self._config, self.store.artifact(version.id))
        confidence = self._section.confidence
        found = [judge_on_log(held_out, chooser_of(self._config, routers), current, confidence)]
        candidate = routers.by_kind[DEFAULT_KIND]
        for data in measured:
            if any(split != TRAIN for split in data.splits):
                other = serving.by_kind.get(DEFAULT_KIND)
                found.append(judge_on_measured(data.evaluation(), candidate, other, confidence))
        evidence = [e for e in found if e is not None]
        stage, reason = verdict(evidence)
        metrics = evidence[0].measures() if evidence else Measures()
        self._settle(version, stage, reason, metrics)
        return Step(version.id, stage, reason)

    def _look_at_shadow(
        self, history: History, version: Version, outcomes: Sequence[Outcome]
    ) -> Step:
        """Hold a version in shadow against the router in force on what was asked since its training."""
        since = [o for o in outcomes if o.record.at_s > version.created_s]
        current, _ = self._in_force(history)
        routers = routers_at(self._config, self.store.artifact(version.id))
        chooser = chooser_of(self._config, routers)
        found = judge_on_log(since, chooser, current, self._section.confidence)
        wanted = self._section.min_shadow
        if found is None or found.requests < wanted:
            seen = 0 if found is None else found.requests
            return Step(None, None, f"waits: {version.id} in shadow, {seen} scored of {wanted}")
        expected = version.metrics.difference_low
        stage, reason = shadow_verdict(found, expected, wanted)
        if stage is None:
            return Step(None, None, f"waits: {version.id} {reason}")
        if stage == "promoted":
            self.store.promote(version.id, reason, self._clock_s())
        else:
            self.store.reject(version.id, reason)
        self.store.forget_artifacts()
        return Step(version.id, stage, reason)

    def _settle(self, version: Version, stage: Stage, reason: str, metrics: Measures) -> None:
        self.store.update(
            msgspec.structs.replace(version, stage=stage, reason=reason, metrics=metrics)
        )
        self.store.forget_artifacts()


def _not_judged(history: History) -> Version | None:
    """A version that was trained by a round that was killed before it could judge it."""
    return next(
        (v for v in history.versions if v.stage == "trained" and v.train_prompts is not None), None
    )


def verdict(evidence: Sequence[Evidence]) -> tuple[Stage, str]:
    """Better with confidence by one source, and by none worse with confidence: into shadow."""
    for found in evidence:
        if found.difference.high < 0:
            return "rejected", f"worse: {found.told()}"
    better = [e for e in evidence if e.is_enough and e.difference.low > 0]
    if better:
        return "shadow", f"better: {better[0].told()}"
    if not evidence:
        return "rejected", "nothing to judge it on: no scored request was held out"
    return "rejected", _why_not(evidence[0])


def shadow_verdict(
    found: Evidence, expected_low: float | None, wanted: int
) -> tuple[Stage | None, str]:
    """Promoted when new traffic, too, says better with confidence.

    Rejected when it falls short of zero or, without being better for sure, of what was expected;
    None, with a reason, while it says neither.
    """
    if found.is_enough and found.difference.low > 0:
        return "promoted", f"confirmed in shadow: {found.told()}"
    if found.difference.high < max(0.0, expected_low or 0.0):
        return "rejected", f"less than expected in shadow: {found.told()}"
    if found.requests >= PATIENCE * wanted:
        return "rejected", f"not confirmed in shadow: {_why_not(found)}"
    return None, f"in shadow, not sure yet: {_why_not(found)}"


def _why_not(found: Evidence) -> str:
    if found.effective < FEW_REQUESTS:
        return (
            f"too little evidence: {found.requests} scored requests count as {found.effective:.0f}; "
            "score more, or explore more"
        )
    if not found.is_enough:
        return (
            f"{found.unsupported:.0%} of its choices could never have been logged: explore more, "
            f"so that they are tried ({found.told()})"
        )
    return f"not better with confidence: {found.told()}"


def _training_rows(measured: Sequence[RoutingData]) -> RoutingData | None:
    """The training prompts of all measured files as one table."""
    own = [data.training() for data in measured if TRAIN in data.splits]
    if not own:
        return None
    if len(own) > 1:
        raise DataError("learning.data: two files have training prompts; put them into one")
    return own[0]
