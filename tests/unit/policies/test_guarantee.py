"""The exact bound against published values; the promise against worlds whose risk is known."""

from dataclasses import replace
from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import choose
from policies.guarantee import Outcomes, binomial_below, calibrate, count_failures, upper_bound
from policies.select import select
from policies.types import (
    Exploration,
    Guarantee,
    Infeasible,
    Needs,
    Policy,
    RoutingFlags,
    Situation,
)


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.01, 0.99))
def test_the_binomial_sum(k, n, p):
    exact = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1))
    assert binomial_below(k, n, p) == pytest.approx(exact, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("failures", "trials", "confidence", "bound"),
    [
        # 0 of n: 1 - (1 - confidence)^(1/n).
        (0, 22, 0.9, 1 - 0.1 ** (1 / 22)),
        (0, 1, 0.5, 0.5),
        # Two-sided 95 % Clopper-Pearson of 10 of 100 ends at 0.1762 (one-sided 97.5 %).
        (10, 100, 0.975, 0.17622),
        (5, 5, 0.9, 1.0),
    ],
)
def test_the_upper_bound(failures, trials, confidence, bound):
    assert upper_bound(failures, trials, confidence) == pytest.approx(bound, abs=1e-5)


@given(st.integers(0, 30), st.integers(1, 60), st.floats(0.5, 0.99))
def test_more_failures_or_more_confidence_raise_the_bound(failures, trials, confidence):
    bound = upper_bound(failures, trials, confidence)
    assert bound <= upper_bound(failures + 1, trials, confidence)
    assert bound <= upper_bound(failures, trials, confidence + 0.005)


def world(random, prompts):
    """Two models; each fails with a chance that its predicted quality tells, the weak one oftener."""
    predicted, failed = [], []
    for _ in range(prompts):
        weak, strong = random.random(), 0.5 + random.random() / 2
        predicted.append((weak, strong))
        failed.append((random.random() > weak**0.3, random.random() > strong**0.3))
    return Outcomes(("weak", "strong"), tuple(predicted), tuple(failed))


def test_the_rule_asks_the_first_model_that_reaches_the_threshold():
    outcomes = Outcomes(
        ("a", "b"),
        ((0.9, 0.9), (0.2, 0.9), (0.2, 0.3), (0.8, 0.1)),
        ((False, True), (True, True), (True, True), (True, False)),
    )
    assert count_failures(outcomes, 0.8) == (3, 2)
    assert count_failures(outcomes, 0.2) == (4, 3)
    assert count_failures(outcomes, 0.95) == (0, 0)


def test_a_promise_is_broken_no_oftener_than_it_says():
    """The true risk of each calibrated rule, over 300 calibration sets, on 20,000 other prompts."""
    random = Random(3)
    reference = world(random, 20_000)
    risk, confidence, sets = 0.1, 0.9, 300
    broken = promised = 0
    for _ in range(sets):
        threshold = calibrate(world(random, 400), risk, confidence)
        if threshold is None:
            continue
        promised += 1
        trials, failures = count_failures(reference, threshold)
        broken += failures > risk * trials
    assert promised > 0.9 * sets
    # 10 % of 300 and three standard errors.
    assert broken <= 0.1 * sets + 3 * (0.09 * sets) ** 0.5


@pytest.mark.parametrize("risk", [0.05, 0.1, 0.3])
def test_a_threshold_comes_with_its_proof(risk):
    outcomes = world(Random(1), 2_000)
    threshold = calibrate(outcomes, risk, 0.9)
    assert threshold is not None
    trials, failures = count_failures(outcomes, threshold)
    assert upper_bound(failures, trials, 0.9) <= risk + 1e-9


def test_more_risk_never_serves_fewer():
    outcomes = world(Random(2), 2_000)
    thresholds = [calibrate(outcomes, risk, 0.9) for risk in (0.08, 0.15, 0.3, 0.6)]
    assert all(t is not None for t in thresholds)
    served = [count_failures(outcomes, t)[0] for t in thresholds]
    assert served == sorted(served)
    assert served[0] < served[-1]


def test_all_is_served_where_nothing_fails():
    rows = tuple((i / 100,) for i in range(100))
    outcomes = Outcomes(("m",), rows, ((False,),) * 100)
    assert calibrate(outcomes, 0.1, 0.9) == 0.0


def test_too_few_prompts_or_too_many_failures_support_no_promise():
    assert calibrate(Outcomes(("m",), (), ()), 0.1, 0.9) is None
    flawless = Outcomes(("m",), ((0.5,),) * 21, ((False,),) * 21)
    assert calibrate(flawless, 0.1, 0.9) is None  # 0.9^21 > 0.1
    enough = Outcomes(("m",), ((0.5,),) * 22, ((False,),) * 22)
    assert calibrate(enough, 0.1, 0.9) == 0.5
    hopeless = Outcomes(("m",), ((0.5,),) * 500, ((True,),) * 500)
    assert calibrate(hopeless, 0.1, 0.9) is None


def test_models_are_taken_in_the_order_named():
    outcomes = Outcomes(("a", "b"), ((0.1, 0.2),), ((True, False),))
    assert outcomes.of(("b", "a")) == Outcomes(("b", "a"), ((0.2, 0.1),), ((False, True),))
    assert outcomes.of(("b",)).predicted == ((0.2,),)


PROMISE = Guarantee(0.1, 0.9, ("cheap", "dear"), 0.7)


def pool(candidate, cheap=0.75, dear=0.9):
    return [
        candidate("dear", quality=dear),
        candidate("cheap", quality=cheap),
        candidate("new", quality=0.99),
    ]


def test_the_first_in_order_answers_and_says_why(candidate):
    decision = choose(pool(candidate), RoutingFlags(guarantee=PROMISE), Needs())
    assert decision.order == ("cheap", "dear")
    assert decision.reason == (
        "first in order with predicted quality 0.7 or more: risk 0.1 at confidence 0.9"
    )
    dear, cheap, new = decision.evaluated
    assert (dear.is_feasible, cheap.is_feasible) == (True, True)
    assert [(v.constraint, v.limit, v.actual) for v in new.violated] == [("guarantee", 0.7, None)]


def test_below_the_threshold_the_next_one_answers(candidate):
    decision = choose(pool(candidate, cheap=0.69), RoutingFlags(guarantee=PROMISE), Needs())
    assert decision.order == ("dear",)
    at = choose(pool(candidate, cheap=0.7), RoutingFlags(guarantee=PROMISE), Needs())
    assert at.chosen == "cheap"


def test_where_nobody_can_promise_that_is_said_or_relaxed(candidate):
    low = pool(candidate, cheap=0.1, dear=0.6)
    with pytest.raises(Infeasible) as caught:
        choose(low, RoutingFlags(guarantee=PROMISE), Needs())
    assert (caught.value.binding, caught.value.nearest) == ("guarantee", 0.6)
    relaxed = choose(low, RoutingFlags(guarantee=PROMISE, on_infeasible="relax"), Needs())
    assert relaxed.relaxed == ("guarantee",)
    assert relaxed.chosen == "new"
    none = replace(PROMISE, threshold=None)
    with pytest.raises(Infeasible):
        choose(pool(candidate), RoutingFlags(guarantee=none), Needs())


def test_a_promise_is_neither_explored_nor_overruled_by_a_conversation(candidate):
    flags = RoutingFlags(guarantee=PROMISE)
    situation = Situation(tuple(pool(candidate)), flags, Needs(), draw=0.9, stay_with="dear")
    selection = select(situation, Policy(exploration=Exploration("epsilon", 1.0)))
    assert selection.decision.chosen == "cheap"
    assert selection.chances == {"cheap": 1.0}


def test_a_named_model_is_pinned_under_a_promise_too(candidate):
    flags = RoutingFlags(guarantee=replace(PROMISE, order=("cheap",)), is_pinned=True)
    assert choose(pool(candidate)[1:], flags, Needs()).reason == "pinned"
    assert flags.needs_quality
    assert RoutingFlags(min_quality=0.1).needs_quality
    assert not RoutingFlags().needs_quality


def graded(strong_fails):
    """Of 400 prompts the weak model is predicted ever better at, the strong one ever worse."""
    return Outcomes(
        ("weak", "strong"),
        tuple((i / 400, (399 - i) / 400) for i in range(400)),
        tuple((i < 300, strong_fails(i)) for i in range(400)),
    )


@pytest.mark.parametrize(
    ("served", "threshold"),
    # The steps at 10 % and 90 % serve 44, 51, 59, 68, 79, …: the weak model answers the latter
    # half of them and the strong one the first.
    [(44, 378 / 400), (51, 374 / 400), (68, 366 / 400), (105, 347 / 400)],
)
def test_the_threshold_is_that_of_the_last_step_that_proves_the_promise(served, threshold):
    half = served // 2 + served % 2
    outcomes = graded(lambda i: i >= half)
    assert calibrate(outcomes, 0.1, 0.9) == pytest.approx(threshold, abs=0.003)
    trials, failures = count_failures(outcomes, calibrate(outcomes, 0.1, 0.9))
    assert upper_bound(failures, trials, 0.9) <= 0.1


def test_what_comes_after_the_first_step_that_fails_is_not_looked_at():
    # Every prompt of the second step fails, all that come later are right.
    outcomes = Outcomes(
        ("m",),
        tuple(((400 - i) / 400,) for i in range(400)),
        tuple((44 <= i < 51,) for i in range(400)),
    )
    assert calibrate(outcomes, 0.1, 0.9) == (400 - 43) / 400
