"""Off-policy estimates against hand-worked values, and against a world whose truth is known."""

from dataclasses import dataclass
from random import Random

import pytest

from policies.explore import pick
from policies.off_policy import Sample, estimate
from policies.select import select
from policies.types import Candidate, Exploration, Needs, Policy, RoutingFlags, Situation

MODELS = ("large", "medium", "small")
LOGGING = Policy("logging", exploration=Exploration("epsilon", 0.4))
TARGET = Policy("target", "balanced", {"cost": 0.3}, exploration=Exploration("epsilon", 0.1))


def sample(chosen, reward, target, predicted=None):
    return Sample(chosen, reward, {"a": 0.8, "b": 0.2}, target, predicted)


def test_by_hand():
    samples = [sample("a", 1.0, {"b": 1.0}), sample("b", 0.5, {"b": 1.0})]
    found = estimate(samples)
    assert found.ips.value == pytest.approx((0 + 5 * 0.5) / 2)
    assert found.snips.value == pytest.approx(0.5)
    assert found.logged.value == pytest.approx(0.75)
    assert found.effective_samples == pytest.approx(1)
    assert found.unsupported == 0
    assert found.dr is None


def test_the_doubly_robust_estimate_by_hand():
    predicted = {"a": 0.9, "b": 0.4}
    samples = [
        sample("a", 1.0, {"b": 1.0}, predicted),  # 0.4 + 0
        sample("b", 0.5, {"b": 1.0}, predicted),  # 0.4 + 5 · 0.1
    ]
    found = estimate(samples)
    assert found.dr.value == pytest.approx((0.4 + 0.9) / 2)
    # Two values 0.5 apart: s = 0.5/√2, so the mean's error is 0.25.
    assert found.dr.high - found.dr.value == pytest.approx(1.959964 * 0.25)
    narrow = estimate(samples, confidence=0.5).dr
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674490 * 0.25)


def test_weights_of_one_give_back_the_logged_mean():
    chances = {"a": 0.8, "b": 0.2}
    samples = [sample(m, r, chances) for m, r in (("a", 1.0), ("a", 0.0), ("b", 0.5))]
    found = estimate(samples)
    assert found.ips == found.logged
    assert found.snips.value == found.logged.value
    assert found.effective_samples == 3


def test_self_normalised_interval_by_hand():
    samples = [sample("b", 1.0, {"b": 1.0}), sample("b", 0.0, {"b": 1.0})]
    found = estimate(samples).snips
    # Weights 5 and 5 about a mean of 0.5: √(2.5² + 2.5²) / 10.
    assert found.high - found.value == pytest.approx(1.959964 * 0.353553, rel=1e-5)


def test_without_overlap_nothing_is_said():
    samples = [Sample("a", 1.0, {"a": 1.0}, {"b": 1.0})] * 3
    found = estimate(samples)
    assert (found.ips, found.snips) == (None, None)
    assert (found.unsupported, found.effective_samples) == (1.0, 0.0)


def test_one_sample_or_none_makes_no_interval():
    one = estimate([sample("a", 1.0, {"a": 1.0})])
    assert (one.samples, one.logged, one.ips, one.snips) == (1, None, None, None)
    none = estimate([])
    assert (none.samples, none.logged, none.ips, none.unsupported) == (0, None, None, 0.0)


@dataclass(frozen=True)
class Prompt:
    """A kind of prompt: how good each model truly is at it, and what the router believes."""

    truth: dict[str, float]
    logged: dict[str, float]
    target: dict[str, float]
    believed: dict[str, float]


def make_prompt(random: Random) -> Prompt:
    truth = {
        "large": random.uniform(0.5, 1.0),
        "medium": random.uniform(0.3, 0.9),
        "small": random.uniform(0.0, 0.8),
    }
    # A router that is wrong by chance, and flatters the small model throughout.
    believed = {
        m: min(1.0, max(0.0, q + random.gauss(0, 0.15) + (0.2 if m == "small" else 0)))
        for m, q in truth.items()
    }
    candidates = tuple(
        Candidate(m, believed[m], 0.0, 1.0, cost, 100.0, None, None)
        for m, cost in zip(MODELS, (3.0, 1.0, 0.1), strict=True)
    )
    situation = Situation(candidates, RoutingFlags(), Needs())
    return Prompt(
        truth, select(situation, LOGGING).chances, select(situation, TARGET).chances, believed
    )


def log(prompts: list[Prompt], size: int, random: Random) -> list[Sample]:
    samples = []
    for prompt in random.choices(prompts, k=size):
        chosen = pick(prompt.logged, random.random())
        reward = float(random.random() < prompt.truth[chosen])
        samples.append(Sample(chosen, reward, prompt.logged, prompt.target, prompt.believed))
    return samples


def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 % intervals over 1,000 logs of 400 decisions: within 3 standard errors, 2.1 points."""
    random = Random(20)
    prompts = [make_prompt(random) for _ in range(300)]
    truth = sum(p.target[m] * p.truth[m] for p in prompts for m in p.target) / len(prompts)
    behaviour = sum(p.logged[m] * p.truth[m] for p in prompts for m in p.logged) / len(prompts)
    assert abs(truth - behaviour) > 0.02  # the two policies do differ
    logs = 1_000
    covered = dict.fromkeys(("ips", "snips", "dr"), 0)
    width = dict.fromkeys(covered, 0.0)
    for _ in range(logs):
        found = estimate(log(prompts, 400, random))
        for name in covered:
            interval = getattr(found, name)
            covered[name] += interval.low <= truth <= interval.high
            width[name] += (interval.high - interval.low) / logs
    assert all(0.929 <= count / logs <= 0.971 for count in covered.values()), covered
    assert max(width["dr"], width["snips"]) < 0.8 * width["ips"], width
