"""The parts of one gateway process, built once from the configuration and closed together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.decision.arms import Arms
from gateway.decision.catalog import Catalog
from gateway.decision.decide import Decider, policy_version
from gateway.decision.scoring import Scorer, load_router
from gateway.ledger.accounting import Ledger
from gateway.ledger.decision_log import DecisionLog, open_decision_log
from gateway.pipeline import Pipeline
from gateway.tasks import TaskGroup
from gateway.telemetry.metrics import Metrics
from gateway.tenancy.limits import Admission
from gateway.upstream.dispatch import Dispatcher


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
    decision_log: DecisionLog | None

    def publish_backend_states(self) -> None:
        """Bring the gauges that describe backends up to date."""
        for model, backend in self.catalog.backends:
            labels = (model.name, backend.name)
            self.metrics.backend_up.labels(*labels).set(backend.health.is_up is True)
            self.metrics.breaker_state.labels(*labels).set(backend.health.is_paused)

    async def close(self) -> None:
        await self.tasks.close()
        await self.catalog.close()
        if self.decision_log is not None:
            await asyncio.to_thread(self.decision_log.close)


def build_parts(config: Config, clock: Clock | None = None) -> Parts:
    """Wire a process together.

    Raises ConfigError when the router's artifact or the decision log cannot be used.
    """
    clock = clock or SystemClock()
    metrics = Metrics()
    catalog = Catalog(config, clock)
    scorer = Scorer(load_router(config), metrics)
    version = policy_version(config, scorer.version)
    metrics.policy_info.labels(version).set(1)
    decider = Decider(catalog, clock, version, Arms(config.policies))
    ledger = Ledger(catalog, clock, metrics)
    decision_log = open_decision_log(config.decision_log, clock, metrics)
    pipeline = Pipeline(
        timeouts=config.timeouts,
        catalog=catalog,
        scorer=scorer,
        decider=decider,
        dispatcher=Dispatcher(config.timeouts, clock, metrics),
        ledger=ledger,
        admission=Admission(config.server.max_inflight, metrics),
        metrics=metrics,
        clock=clock,
        decision_log=decision_log,
    )
    return Parts(
        config, clock, metrics, TaskGroup(), catalog, decider, ledger, pipeline, decision_log
    )
