"""The parts of one gateway process, built once from the configuration and closed together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from gateway.cascade import FirstTry
from gateway.clock import Clock, SystemClock
from gateway.config import metrics_folder
from gateway.decision.arms import Arms
from gateway.decision.catalog import Catalog
from gateway.decision.decide import Decider, policy_version
from gateway.decision.guarantees import Guarantees, open_guarantees
from gateway.decision.reload import watch_artifact
from gateway.decision.scoring import LoadedRouters, Scorer, load_routers
from gateway.decision.sessions import Sessions
from gateway.errors import ConfigError
from gateway.learning.published import watch_learning
from gateway.ledger.accounting import RECENT_ROWS, Ledger, LedgerRow
from gateway.ledger.book import LedgerBook
from gateway.ledger.decision_log import DecisionLog, open_decision_log
from gateway.ledger.feedback import Feedback
from gateway.pipeline import Pipeline
from gateway.resume import Resumer
from gateway.settings import Config
from gateway.tasks import TaskGroup
from gateway.telemetry.logs import RequestLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.process import ProcessWatch
from gateway.tenancy.limits import Admission
from gateway.tenancy.principals import Door, KeyDoor, open_door
from gateway.upstream.dispatch import Dispatcher
from gateway.upstream.probe import probe_forever
from gateway.upstream.published import publish_backend
from gateway.upstream.watch import watch_forever

if TYPE_CHECKING:
    from gateway.telemetry.otlp import TraceExporter
    from gateway.telemetry.tracing import Tracer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What lives as long as the process, whatever configuration it serves by."""

    clock: Clock
    metrics: Metrics
    request_log: RequestLog
    process_watch: ProcessWatch
    sessions: Sessions
    admission: Admission
    recent: deque[LedgerRow]


@dataclass(frozen=True, slots=True)
class Parts:
    """What serves by one configuration."""

    config: Config
    standing: Standing
    tasks: TaskGroup
    catalog: Catalog
    decider: Decider
    ledger: Ledger
    pipeline: Pipeline
    door: Door
    decision_log: DecisionLog | None
    feedback: Feedback | None
    book: LedgerBook | None
    tracer: Tracer | None
    trace_exporter: TraceExporter | None

    @property
    def clock(self) -> Clock:
        return self.standing.clock

    @property
    def metrics(self) -> Metrics:
        return self.standing.metrics

    def publish_backend_states(self) -> None:
        """Bring the gauges that describe backends up to date."""
        now_s = self.clock.monotonic_s()
        for model, backend in self.catalog.backends:
            publish_backend(self.metrics, model.name, backend, now_s)

    def adopt_routers(self, routers: LoadedRouters) -> None:
        """Decide by these routers from now on.

        A calibration made with other ones is void: guarantees are then refused until there is a new
        one.
        """
        scorer = self.pipeline.scorer
        scorer.adopt(routers)
        try:
            guarantees = open_guarantees(self.config, scorer.version)
        except ConfigError as error:
            _log.error("no guarantee can be given: %s", error)
            guarantees = Guarantees(None, self.config)
        self.metrics.policy_info.labels(self.decider.version).set(0)
        self.decider.adopt(policy_version(self.config, scorer.version()), guarantees)
        self.metrics.policy_info.labels(self.decider.version).set(1)

    def yield_to(self, heir: Parts) -> None:
        """Take the policy, and what ``heir`` does not have, out of the metrics."""
        self.metrics.policy_info.labels(self.decider.version).set(0)
        if heir.config.learning != self.config.learning:
            self.metrics.learning.forget()
        kept = {(model.name, backend.name) for model, backend in heir.catalog.backends}
        for model, backend in self.catalog.backends:
            if (model.name, backend.name) not in kept:
                self.metrics.backend_up.labels(model.name, backend.name).set(nan)

    def begin(self) -> None:
        """Start what runs beside the requests."""
        backends = [backend for _, backend in self.catalog.backends]
        self.tasks.spawn("probe", probe_forever(backends))
        if self.catalog.watched:
            self.tasks.spawn("signals", watch_forever(self.catalog.watched, self.clock))
        if isinstance(self.door, KeyDoor):
            self.tasks.spawn("keys", self.door.keep_up())
        self.tasks.spawn("router", watch_artifact(self.config, self.adopt_routers))
        if (section := self.config.learning) is not None:
            watch = watch_learning(section, self.config.models, self.metrics.learning)
            self.tasks.spawn("learning", watch)
        self.standing.admission.set_limits(self.config.server)
        self.standing.process_watch.publish_more = self.publish_backend_states
        self.metrics.policy_info.labels(self.decider.version).set(1)

    async def close(self, heir: Parts | None = None) -> None:
        """End everything, apart from what ``heir`` goes on with."""
        await self.tasks.close()
        await self.catalog.close()
        if heir is None or heir.door is not self.door:
            await self.door.close()
        log = self.decision_log
        if log is not None and (heir is None or heir.decision_log is not log):
            await asyncio.to_thread(log.close)
        if self.book is not None and (heir is None or heir.book is not self.book):
            await asyncio.to_thread(self.book.close)
        exporter = self.trace_exporter
        if exporter is not None and (heir is None or heir.trace_exporter is not exporter):
            await asyncio.to_thread(exporter.close)
        if heir is None:
            self.standing.process_watch.stop()
            await asyncio.to_thread(self.standing.request_log.close)


def build_parts(config: Config, clock: Clock | None = None, before: Parts | None = None) -> Parts:
    """Wire a process together; of ``before`` it takes over what a new configuration leaves as it is.

    Counters go on, and so do keys' limits, sessions and open files. Raises ConfigError when the
    router's artifact or the decision log cannot be used; then nothing of ``before`` has changed.
    """
    standing = _new_standing(config, clock) if before is None else before.standing
    clock, metrics = standing.clock, standing.metrics
    catalog = Catalog(config, clock)
    scorer = Scorer(load_routers(config), metrics)
    decider = Decider(
        catalog,
        clock,
        policy_version(config, scorer.version()),
        Arms(config.policies),
        open_guarantees(config, scorer.version),
        config.router.fallback,
    )
    metrics.know_models(
        list(catalog.models), [(model.name, backend.name) for model, backend in catalog.backends]
    )
    book = _book(config, metrics, before)
    ledger = Ledger(catalog, clock, metrics, standing.request_log, standing.recent, book)
    decision_log, feedback = _decision_log(config, clock, metrics, before)
    door = _door(config, clock, metrics, before)
    dispatcher = Dispatcher(config.timeouts, clock, metrics, config.hedging)
    pipeline = Pipeline(
        timeouts=config.timeouts,
        catalog=catalog,
        scorer=scorer,
        sessions=standing.sessions,
        decider=decider,
        dispatcher=dispatcher,
        first_try=FirstTry(catalog, dispatcher, config.timeouts, clock, metrics),
        resumer=Resumer(catalog, dispatcher, config.timeouts, clock, metrics),
        ledger=ledger,
        door=door,
        admission=standing.admission,
        metrics=metrics,
        clock=clock,
        decision_log=decision_log,
        feedback=feedback,
    )
    return Parts(
        config,
        standing,
        TaskGroup(),
        catalog,
        decider,
        ledger,
        pipeline,
        door,
        decision_log,
        feedback,
        book,
        *_tracer(config, clock, metrics, before),
    )


def _tracer(
    config: Config, clock: Clock, metrics: Metrics, before: Parts | None
) -> tuple[Tracer | None, TraceExporter | None]:
    """Who traces requests; one who sends traces to where they go as before goes on."""
    if config.tracing is None:
        return None, None
    from gateway.tracing import open_tracer

    goes_on = before is not None and before.config.tracing == config.tracing
    exporter = before.trace_exporter if before is not None and goes_on else None
    return open_tracer(config, config.tracing, clock, metrics, exporter)


def _book(config: Config, metrics: Metrics, before: Parts | None) -> LedgerBook | None:
    """Open the ledger on disk; one that stays where it is stays open."""
    path = config.state.ledger
    if before is not None and before.config.state.ledger == path:
        return before.book
    return None if path is None else LedgerBook(path, metrics.ledger_lost.inc)


def _door(config: Config, clock: Clock, metrics: Metrics, before: Parts | None) -> Door:
    """Who lets callers in; where nothing of that has changed, with what it has counted."""
    if before is not None:
        was = before.config
        if (was.auth, was.state) == (config.auth, config.state):
            return before.door
    return open_door(config, clock, metrics)


def _new_standing(config: Config, clock: Clock | None) -> Standing:
    clock = clock or SystemClock()
    metrics = Metrics(metrics_folder())
    return Standing(
        clock=clock,
        metrics=metrics,
        request_log=RequestLog(metrics.log_lines_lost),
        process_watch=ProcessWatch(metrics),
        sessions=Sessions(clock),
        admission=Admission(config.server, metrics),
        recent=deque(maxlen=RECENT_ROWS),
    )


def _decision_log(
    config: Config, clock: Clock, metrics: Metrics, before: Parts | None
) -> tuple[DecisionLog | None, Feedback | None]:
    """Open the log and who adds scores to it; one that stays where it is stays open."""
    if before is not None and before.config.decision_log == config.decision_log:
        return before.decision_log, before.feedback
    log = open_decision_log(config.decision_log, clock, metrics)
    return log, None if log is None else Feedback(log, clock, metrics)
