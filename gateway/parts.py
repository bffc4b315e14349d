"""The parts of one gateway process, built once from the configuration and closed together."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.decision.catalog import Catalog
from gateway.decision.decide import Decider, policy_version
from gateway.decision.scoring import Scorer, load_router
from gateway.ledger.accounting import Ledger
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

    def publish_backend_states(self) -> None:
        """Bring the gauges that describe backends up to date."""
        for model, backend in self.catalog.backends:
            labels = (model.name, backend.name)
            self.metrics.backend_up.labels(*labels).set(backend.health.is_up is True)
            self.metrics.breaker_state.labels(*labels).set(backend.health.is_paused)

    async def close(self) -> None:
        await self.tasks.close()
        await self.catalog.close()


def build_parts(config: Config, clock: Clock | None = None) -> Parts:
    """Wire a process together.

    Raises ConfigError when the router's artifact cannot be used.
    """
    clock = clock or SystemClock()
    metrics = Metrics()
    catalog = Catalog(config, clock)
    scorer = Scorer(load_router(config), metrics)
    version = policy_version(config, scorer.version)
    metrics.policy_info.labels(version).set(1)
    decider = Decider(catalog, clock, version)
    ledger = Ledger(catalog, clock, metrics)
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
    )
    return Parts(config, clock, metrics, TaskGroup(), catalog, decider, ledger, pipeline)
