"""The retry budget: a share of the traffic and a little for free, whatever fails."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.upstream.retries import FREE_RETRIES_PER_S, HORIZON_S, RETRY_SHARE, RetryBudget

FREE = int(FREE_RETRIES_PER_S * HORIZON_S)


@dataclass
class Hands:
    """A clock moved by hand."""

    now_s: float = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s


def drained(budget: RetryBudget) -> int:
    count = 0
    while budget.withdraw():
        count += 1
    return count


def test_without_traffic_a_few_are_free_and_come_back_with_time() -> None:
    clock = Hands()
    budget = RetryBudget(clock)
    assert drained(budget) == FREE
    clock.now_s = 2.0
    assert drained(budget) == int(2 * FREE_RETRIES_PER_S)


def test_traffic_pays_for_its_share() -> None:
    budget = RetryBudget(Hands())
    drained(budget)
    for _ in range(1000):
        budget.deposit()
    assert drained(budget) in {int(1000 * RETRY_SHARE), int(1000 * RETRY_SHARE) - 1}


def test_what_was_saved_fades() -> None:
    clock = Hands()
    budget = RetryBudget(clock)
    for _ in range(100_000):
        budget.deposit()
    clock.now_s = 20 * HORIZON_S
    assert drained(budget) <= FREE + 1
