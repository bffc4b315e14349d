import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BudgetSpent, RateLimited
from gateway.tenancy.keys import KeyPolicy
from gateway.tenancy.limits import NANOS_PER_USD, Bucket, KeyUse

NOON = 1_764_000_000.0 - 1_764_000_000.0 % 86_400 + 43_200


class SetClock:
    def __init__(self):
        self.now_s, self.day_s = 1_000.0, NOON

    def monotonic_s(self):
        return self.now_s

    def wall_s(self):
        return self.day_s


@pytest.fixture
def clock():
    return SetClock()


def usd(amount):
    return round(amount * NANOS_PER_USD)


def test_a_minutes_worth_of_requests_is_let_in_and_the_next_waits(clock):
    meter = KeyUse(KeyPolicy(requests_per_minute=3), clock)
    for _ in range(3):
        meter.settle(meter.hold(0, 0), 0, 0)
    with pytest.raises(RateLimited) as refused:
        meter.hold(0, 0)
    assert refused.value.retry_after_s == 20
    assert meter.headers()["x-ratelimit-remaining-requests"] == "0"
    clock.now_s += 20
    meter.hold(0, 0)


def test_so_many_requests_may_be_in_flight(clock):
    meter = KeyUse(KeyPolicy(concurrency=2), clock)
    first = meter.hold(0, 0)
    meter.hold(0, 0)
    with pytest.raises(RateLimited, match="2 requests in flight"):
        meter.hold(0, 0)
    meter.settle(first, 0, 0)
    meter.hold(0, 0)


def test_tokens_that_were_held_too_many_come_back(clock):
    meter = KeyUse(KeyPolicy(tokens_per_minute=1_000), clock)
    hold = meter.hold(800, 0)
    with pytest.raises(RateLimited):
        meter.hold(300, 0)
    meter.settle(hold, 100, 0)
    assert meter.headers()["x-ratelimit-remaining-tokens"] == "900"
    meter.hold(300, 0)


def test_tokens_that_were_held_too_few_are_owed(clock):
    meter = KeyUse(KeyPolicy(tokens_per_minute=600), clock)
    meter.settle(meter.hold(10, 0), 1_200, 0)
    assert meter.headers()["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(RateLimited) as refused:
        meter.hold(1, 0)
    assert refused.value.retry_after_s == 61


def test_more_than_a_minute_allows_gets_a_full_minute(clock):
    meter = KeyUse(KeyPolicy(tokens_per_minute=100), clock)
    meter.hold(5_000, 0)
    with pytest.raises(RateLimited):
        meter.hold(1, 0)


def test_what_is_held_counts_against_the_budget_at_once(clock):
    meter = KeyUse(KeyPolicy(budget_usd_per_day=1.0), clock)
    hold = meter.hold(1, usd(0.7))
    with pytest.raises(BudgetSpent, match=r"0\.300000 of 1 USD a day are left"):
        meter.hold(1, usd(0.4))
    meter.settle(hold, 1, usd(0.1))
    meter.hold(1, usd(0.9))


def test_a_spent_budget_lets_nobody_in(clock):
    meter = KeyUse(KeyPolicy(budget_usd_per_month=1.0), clock)
    meter.settle(meter.hold(1, 0), 1, usd(1.0))
    with pytest.raises(BudgetSpent, match="a month"):
        meter.hold(0, 0)


def test_a_day_gives_its_budget_anew_and_keeps_the_months(clock):
    meter = KeyUse(KeyPolicy(budget_usd_per_day=1.0, budget_usd_per_month=1.5), clock)
    meter.settle(meter.hold(1, 0), 1, usd(1.0))
    clock.day_s += 86_400
    meter.hold(1, usd(0.5))
    with pytest.raises(BudgetSpent, match="a month"):
        meter.hold(1, usd(0.1))


def test_a_clock_set_back_gives_no_budget_anew(clock):
    meter = KeyUse(KeyPolicy(budget_usd_per_day=1.0), clock)
    meter.settle(meter.hold(1, 0), 1, usd(1.0))
    clock.day_s -= 3 * 86_400
    with pytest.raises(BudgetSpent):
        meter.hold(0, 0)


def test_a_budget_of_nothing_permits_nothing(clock):
    with pytest.raises(BudgetSpent):
        KeyUse(KeyPolicy(budget_usd_per_day=0.0), clock).hold(0, 0)


def test_a_limit_that_stays_the_same_keeps_its_level(clock):
    meter = KeyUse(KeyPolicy(requests_per_minute=2, concurrency=9), clock)
    meter.hold(0, 0)
    meter.set_policy(KeyPolicy(requests_per_minute=2, concurrency=8))
    assert meter.headers()["x-ratelimit-remaining-requests"] == "1"
    meter.set_policy(KeyPolicy(requests_per_minute=5))
    assert meter.headers()["x-ratelimit-remaining-requests"] == "5"


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 30)), max_size=60), st.integers(1, 100))
def test_no_stretch_of_time_lets_more_through_than_its_burst_and_its_rate(steps, per_minute):
    bucket, now_s, taken = Bucket(per_minute, 0.0), 0.0, 0.0
    for amount, pause_s in steps:
        now_s += pause_s
        amount = min(amount, per_minute)
        if bucket.wait_s(amount, now_s) == 0:
            bucket.take(amount)
            taken += amount
        assert taken <= per_minute + now_s * per_minute / 60 + 1e-6
