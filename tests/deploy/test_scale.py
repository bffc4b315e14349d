"""The scale plan adds up: queues as in theory, limits where they are said to be, the page in step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.benchmarks.scale import queueing
from tests.benchmarks.scale.page import PAGE, figures, page
from tests.benchmarks.scale.plan import (
    LIMITS,
    POOLS,
    REPLICAS,
    TARGET,
    WORKLOADS,
    Measured,
    breaks_at,
    fleet,
    one_process,
    request_us,
)

MEASURED = Measured.of(figures())
STREAMS = WORKLOADS[0]


def test_the_page_says_what_the_figures_come_to() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run python -m tests.benchmarks.scale"


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_waits_are_those_of_queueing_theory(busy: float) -> None:
    draw = np.random.default_rng(1)
    service_s, count = 1e-3, 2_000_000
    arrivals_s = np.cumsum(draw.exponential(service_s / busy, count))
    for services_s, variation in (
        (np.full(count, service_s), 0.0),  # M/D/1
        (draw.exponential(service_s, count), 1.0),  # M/M/1
    ):
        expected_s = busy * service_s * (1 + variation) / (2 * (1 - busy))  # Pollaczek, Khinchine
        found_s = queueing.waits(arrivals_s, services_s).mean()
        assert found_s == pytest.approx(expected_s, rel=0.05)


def test_nobody_waits_for_an_idle_server() -> None:
    waited = queueing.waits(np.array([0.0, 1.0, 1.5, 9.0]), np.array([1.0, 2.0, 1.0, 1.0]))
    assert waited.tolist() == [0.0, 0.0, 1.5, 0.0]


def test_a_simulated_process_is_as_busy_as_it_was_to_be() -> None:
    calm, busy = (queueing.event_loop(MEASURED, STREAMS, share) for share in (0.3, 0.9))
    assert 0 <= calm.p50_ms <= calm.p99_ms
    assert busy.mean_ms > 4 * calm.mean_ms


def test_a_fleet_is_no_busier_than_its_target_and_has_a_place_for_each_request() -> None:
    for workload in WORKLOADS:
        for rate in (10, 1_000, 100_000):
            planned = fleet(MEASURED, workload, POOLS, rate)
            work = rate * request_us(MEASURED, workload) / 1e6
            assert work / planned.gateways <= TARGET
            assert planned.open_requests / planned.gateways <= 2048
            assert planned.redis_busy / planned.redis_needed <= TARGET
            by_core, by_places = one_process(MEASURED, workload)
            assert planned.gateways >= rate / min(by_core, by_places) * 0.999


@pytest.mark.parametrize("layout", [REPLICAS, POOLS], ids=lambda layout: layout.name)
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_is_reached_where_it_is_said_to_be(layout: object, limit: object) -> None:
    for workload in WORKLOADS:
        rate = breaks_at(MEASURED, workload, layout, limit)
        if rate is None:
            assert limit.use(fleet(MEASURED, workload, layout, 1e7)) < 1
        else:
            assert limit.use(fleet(MEASURED, workload, layout, rate * 0.98)) < 1.01
            assert limit.use(fleet(MEASURED, workload, layout, rate * 1.02)) >= 1


def test_a_cheaper_script_moves_the_limit_of_redis_in_proportion() -> None:
    redis = LIMITS[0]
    halved = dataclasses.replace(MEASURED, limited_redis_us=MEASURED.limited_redis_us / 2)
    whole = WORKLOADS[2]
    before, after = (breaks_at(m, whole, POOLS, redis) for m in (MEASURED, halved))
    assert after == pytest.approx(2 * before, rel=0.15)
