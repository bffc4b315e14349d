"""Which replica is asked first."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest

from gateway.upstream.backend import BackendHandle
from gateway.upstream.balance import Balance, ordered
from gateway.upstream.throttle import REQUESTS_TO_JUDGE, WINDOW_S, K, Throttle
from gateway.upstream.transport import Transport


def replicas(*loads: int) -> list[BackendHandle]:
    made = [BackendHandle(f"r{n}", "m", {}, cast("Transport", None)) for n in range(len(loads))]
    for backend, load in zip(made, loads, strict=True):
        backend.health.inflight = load
    return made


def first(backends: list[BackendHandle], balance: Balance, prefix: bytes | None = None) -> str:
    return ordered(backends, balance, 0.0, prefix)[0].name


@pytest.mark.parametrize("balance", ["least_loaded", "two_choices", "prefix", "listed"])
def test_every_replica_is_in_the_order_once(balance: Balance) -> None:
    backends = replicas(3, 0, 2, 2)
    for prefix in (None, b"a", b"b"):
        names = [b.name for b in ordered(backends, balance, 0.0, prefix)]
        assert sorted(names) == ["r0", "r1", "r2", "r3"]
    assert ordered([], balance, 0.0, b"a") == []


def test_the_least_loaded_or_the_first_listed() -> None:
    assert first(replicas(3, 1, 2), "least_loaded") == "r1"
    assert first(replicas(3, 1, 2), "listed") == "r0"


def test_two_choices_never_begin_with_the_busiest_and_not_always_with_the_idlest() -> None:
    drawn = Counter(first(replicas(0, 1, 2, 9), "two_choices") for _ in range(600))
    assert "r3" not in drawn
    # Of six pairs r0 is in three, r1 is the lesser of two, r2 of one.
    assert [drawn[f"r{n}"] / 600 for n in range(3)] == pytest.approx(
        [1 / 2, 1 / 3, 1 / 6], abs=0.08
    )


def test_a_prefix_stays_where_it_is_and_a_lost_replica_moves_its_own_alone() -> None:
    prefixes = [b"conversation %d" % n for n in range(300)]
    four = replicas(0, 0, 0, 0)
    homes = {p: first(four, "prefix", p) for p in prefixes}
    assert homes == {p: first(four, "prefix", p) for p in prefixes}
    assert min(Counter(homes.values()).values()) > 40
    fewer = [b for b in four if b.name != "r2"]
    for prefix, home in homes.items():
        assert home == "r2" or first(fewer, "prefix", prefix) == home


def test_a_prefix_leaves_a_replica_that_is_too_busy() -> None:
    backends = replicas(2, 2, 2, 2)
    home = next(b for b in backends if b.name == first(backends, "prefix", b"p"))
    home.health.inflight = 9
    assert first(backends, "prefix", b"p") != home.name
    # What is busy beyond the bound is asked all the same when the others fail.
    assert home in ordered(backends, "prefix", 0.0, b"p")


def test_without_a_prefix_the_least_loaded_is_asked() -> None:
    assert first(replicas(3, 1, 2), "prefix", b"") == "r1"


def test_nobody_is_spared_before_there_is_proof() -> None:
    throttle = Throttle()
    for _ in range(REQUESTS_TO_JUDGE - 1):
        throttle.note(0.0, accepted=False)
    assert throttle.share_spared(0.0) == 0
    throttle.note(0.0, accepted=False)
    assert throttle.share_spared(0.0) == REQUESTS_TO_JUDGE / (REQUESTS_TO_JUDGE + 1)


def test_a_backend_that_takes_one_in_k_is_not_spared() -> None:
    throttle = Throttle()
    for number in range(200):
        throttle.note(0.0, accepted=number % int(K) == 0)
    assert throttle.share_spared(0.0) == 0
    for _ in range(200):
        throttle.note(0.0, accepted=False)
    assert throttle.share_spared(0.0) == pytest.approx((400 - K * 100) / 401)


def test_what_was_long_ago_is_forgotten() -> None:
    throttle = Throttle()
    for _ in range(50):
        throttle.note(0.0, accepted=False)
    assert throttle.spares(0.0) in (True, False)
    assert throttle.share_spared(WINDOW_S / 2) > 0.9
    assert throttle.share_spared(2 * WINDOW_S) == 0
