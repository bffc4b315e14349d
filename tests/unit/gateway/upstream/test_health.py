"""The breaker: five failures pause a backend, one request at a time finds out whether it is back."""

from __future__ import annotations

import pytest

from gateway.upstream.health import (
    ANSWERS_TO_JUDGE,
    FAILURES_TO_OPEN,
    FIRST_PAUSE_S,
    JITTER,
    LONGEST_PAUSE_S,
    SMOOTHING,
    WINDOW_S,
    BackendHealth,
    MovingMean,
)

#: The first pause is over by then, whatever its jitter.
AFTER_S = FIRST_PAUSE_S * (1 + JITTER)


def failed(times: int, now_s: float = 0.0) -> BackendHealth:
    health = BackendHealth()
    for _ in range(times):
        health.fail(now_s)
    return health


def test_it_pauses_at_the_fifth_failure_in_a_row_and_not_before() -> None:
    assert failed(FAILURES_TO_OPEN - 1).is_usable(0.0)
    health = failed(FAILURES_TO_OPEN)
    assert health.is_paused
    assert not health.is_usable(FIRST_PAUSE_S - 0.01)
    assert health.is_usable(AFTER_S)


def test_a_success_in_between_starts_the_count_again() -> None:
    health = failed(FAILURES_TO_OPEN - 1)
    health.succeed(0.0)
    for _ in range(FAILURES_TO_OPEN - 1):
        health.fail(0.0)
    assert health.is_usable(0.0)


def test_a_burst_of_requests_under_way_pauses_no_longer_than_five() -> None:
    assert failed(100).is_usable(AFTER_S)


def test_after_a_pause_one_request_goes_and_the_others_wait_for_it() -> None:
    health = failed(FAILURES_TO_OPEN)
    health.begin(AFTER_S)
    assert not health.is_usable(AFTER_S)
    health.succeed(0.0)
    assert health.is_usable(AFTER_S)
    assert not health.is_paused


def test_pauses_double_up_to_the_longest_while_nothing_comes_back() -> None:
    health = failed(FAILURES_TO_OPEN)
    now_s, pauses = AFTER_S, []
    for _ in range(6):
        health.begin(now_s)
        health.fail(now_s)
        pause_s = next(s for s in range(1, 100) if health.is_usable(now_s + s))
        pauses.append(pause_s)
        now_s += pause_s
    expected = [10, 20, 40, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    for pause_s, least_s in zip(pauses, expected, strict=True):
        assert least_s <= pause_s <= least_s * (1 + JITTER)
    health.succeed(0.0)
    for _ in range(FAILURES_TO_OPEN):
        health.fail(now_s)
    assert health.is_usable(now_s + AFTER_S), "a success forgets the long pauses"


def test_a_trial_that_its_client_abandons_does_not_block_the_next() -> None:
    health = failed(FAILURES_TO_OPEN)
    health.begin(AFTER_S)  # and nothing is ever told of it
    assert health.is_usable(AFTER_S + 2 * AFTER_S)


def test_a_probe_takes_a_backend_out_and_back() -> None:
    health = BackendHealth()
    assert health.is_usable(0.0), "unknown is usable"
    health.probe(answered=False)
    assert not health.is_usable(0.0)
    health.probe(answered=True)
    assert health.is_usable(0.0)


def test_a_probe_does_not_end_a_pause_that_requests_have_earned() -> None:
    health = BackendHealth()
    health.probe(answered=True)
    for _ in range(FAILURES_TO_OPEN):
        health.fail(0.0)
    health.probe(answered=True)
    assert not health.is_usable(0.0)


def test_the_moving_mean_starts_at_the_first_observation() -> None:
    mean = MovingMean()
    mean.add(10.0)
    assert mean.value == 10.0
    mean.add(20.0)
    assert mean.value == pytest.approx(10.0 + SMOOTHING * 10.0)


def test_half_of_many_answers_failing_pauses_it_without_five_in_a_row() -> None:
    health = BackendHealth()
    for second in range(ANSWERS_TO_JUDGE):
        assert health.is_usable(second)
        health.fail(second) if second % 2 else health.succeed(second)
    assert health.is_paused


def test_failures_longer_ago_than_the_window_are_forgotten() -> None:
    health = BackendHealth()
    for _ in range(FAILURES_TO_OPEN - 1):
        health.fail(0.0)
    health.succeed(0.0)
    for _ in range(ANSWERS_TO_JUDGE):
        health.succeed(WINDOW_S + 1)
    for _ in range(FAILURES_TO_OPEN - 1):
        health.fail(WINDOW_S + 2)
    assert not health.is_paused


def test_a_stream_that_opens_ends_a_pause_but_forgives_no_break() -> None:
    health = BackendHealth()
    for _ in range(FAILURES_TO_OPEN):
        health.begin(0.0)
        health.open()
        health.fail(0.0)  # it broke off after its first event
    assert health.is_paused
    health.begin(AFTER_S)
    health.open()
    assert health.is_usable(AFTER_S)
