"""The parts of one gateway process, built once from the configuration and closed together."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from gateway.cascade import FirstTry
from gateway.clock import Clock, SystemClock
from gateway.config import metrics_folder
from gateway.decision.arms import Arms
from gateway.decision.catalog import Catalog
from gateway.decision.decide import Decider, policy_version
from gateway.decision.guarantees import Guarantees, open_guarantees
from gateway.decision.scoring import LoadedRouters, Scorer, load_routers
from gateway.decision.sessions import Sessions
from gateway.errors import ConfigError
from gateway.ledger.accounting import Ledger
from gateway.ledger.decision_log import DecisionLog, open_decision_log
from gateway.ledger.feedback import Feedback
from gateway.pipeline import Pipeline
from gateway.settings import Config
from gateway.tasks import TaskGroup
from gateway.telemetry.logs import RequestLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.process import ProcessWatch
from gateway.tenancy.limits import Admission
from gateway.tenancy.principals import Door, open_door
from gateway.upstream.dispatch import Dispatcher
from gateway.upstream.published import publish_backend

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    config: Config
    clock: Clock
    metrics: Metrics
    tasks: TaskGroup
    catalog: Catalog
    decider: Decider
    ledger: Ledger
    pipeline: Pipeline
    door: Door
    decision_log: DecisionLog | None
    feedback: Feedback | None
    request_log: RequestLog
    process_watch: ProcessWatch

    def publish_backend_states(self) -> None:
        """Bring the gauges that describe backends up to date."""
        _publish_backend_states(self.catalog, self.metrics, self.clock)

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

    async def close(self) -> None:
        self.process_watch.stop()
        await self.tasks.close()
        await self.door.close()
        await self.catalog.close()
        if self.decision_log is not None:
            await asyncio.to_thread(self.decision_log.close)
        await asyncio.to_thread(self.request_log.close)


def build_parts(config: Config, clock: Clock | None = None) -> Parts:
    """Wire a process together.

    Raises ConfigError when the router's artifact or the decision log cannot be used.
    """
    clock = clock or SystemClock()
    metrics = Metrics(metrics_folder())
    catalog = Catalog(config, clock)
    scorer = Scorer(load_routers(config), metrics)
    version = policy_version(config, scorer.version())
    metrics.policy_info.labels(version).set(1)
    guarantees = open_guarantees(config, scorer.version)
    arms = Arms(config.policies)
    decider = Decider(catalog, clock, version, arms, guarantees, config.router.fallback)
    metrics.know_models(
        list(catalog.models), [(model.name, backend.name) for model, backend in catalog.backends]
    )
    request_log = RequestLog(metrics.log_lines_lost)
    ledger = Ledger(catalog, clock, metrics, request_log)
    decision_log = open_decision_log(config.decision_log, clock, metrics)
    feedback = None if decision_log is None else Feedback(decision_log, clock, metrics)
    door = open_door(config.auth, clock, metrics)
    dispatcher = Dispatcher(config.timeouts, clock, metrics)
    pipeline = Pipeline(
        timeouts=config.timeouts,
        catalog=catalog,
        scorer=scorer,
        sessions=Sessions(clock),
        decider=decider,
        dispatcher=dispatcher,
        first_try=FirstTry(catalog, dispatcher, config.timeouts, clock, metrics),
        ledger=ledger,
        door=door,
        admission=Admission(config.server.max_inflight, metrics),
        metrics=metrics,
        clock=clock,
        decision_log=decision_log,
        feedback=feedback,
    )
    return Parts(
        config=config,
        clock=clock,
        metrics=metrics,
        tasks=TaskGroup(),
        catalog=catalog,
        decider=decider,
        ledger=ledger,
        pipeline=pipeline,
        door=door,
        decision_log=decision_log,
        feedback=feedback,
        request_log=request_log,
        process_watch=ProcessWatch(
            metrics, partial(_publish_backend_states, catalog, metrics, clock)
        ),
    )


def _publish_backend_states(catalog: Catalog, metrics: Metrics, clock: Clock) -> None:
    now_s = clock.monotonic_s()
    for model, backend in catalog.backends:
        publish_backend(metrics, model.name, backend, now_s)
