import numpy as np
import pytest

from gateway.decision import scoring
from gateway.decision.scoring import NO_PREDICTIONS, LoadedRouters, Scorer
from gateway.telemetry.metrics import Metrics
from router_models.types import Estimates


class CountingRouter:
    """Predicts the length of the ask as the quality of ``a``; fails on ``bad``."""

    models = ("a", "b")
    version = "counting"

    def __init__(self):
        self.asked = []

    def score(self, prompt):
        self.asked.append(prompt)
        quality = np.array([len(prompt) / 100, np.nan if prompt == "bad" else 0.5])
        return Estimates(self.models, quality, quality - 0.1, quality + 0.1, np.array([10.0, 30.0]))


@pytest.fixture
def router():
    return CountingRouter()


@pytest.fixture
def scorer(router):
    made = Scorer(LoadedRouters({"perceptive": router}), Metrics())
    router.asked.clear()
    return made


def test_predictions_are_told_by_model(scorer):
    found = scorer.score("four")
    assert found.of("a", None).quality == pytest.approx(0.04)
    assert found.of("b", None).output_tokens == pytest.approx(30)
    assert found.of("b", None).quality_low == pytest.approx(0.4)


def test_a_model_that_the_router_never_saw_gets_the_mean_or_its_prior_and_all_the_doubt(scorer):
    found = scorer.score("four")
    mean, told = found.of("new", None), found.of("new", 0.9)
    assert (mean.quality, mean.output_tokens) == (pytest.approx(0.27), pytest.approx(20))
    assert (told.quality, told.output_tokens) == (0.9, pytest.approx(20))
    assert (mean.quality_low, mean.quality_high) == (told.quality_low, told.quality_high) == (0, 1)


def test_the_same_ask_is_scored_once(scorer, router):
    first = scorer.score("the same ask")
    assert scorer.score("the same ask") is first
    assert router.asked == ["the same ask"]


def test_asks_used_least_lately_are_forgotten(scorer, router, monkeypatch):
    monkeypatch.setattr(scoring, "KEPT_ASKS", 2)
    for ask in ("one", "two", "one", "three", "one", "two"):
        scorer.score(ask)
    assert router.asked == ["one", "two", "three", "two"]


def test_a_very_long_ask_is_not_kept(scorer, router):
    for _ in range(2):
        scorer.score("long " * 1_000)
    assert len(router.asked) == 2


def test_a_failure_is_counted_and_not_kept(scorer, router):
    assert scorer.score("bad") is NO_PREDICTIONS
    assert scorer.score("bad") is NO_PREDICTIONS
    assert len(router.asked) == 2


def test_without_a_router_nothing_is_predicted():
    bare = Scorer(LoadedRouters(), Metrics())
    assert bare.score("anything") is NO_PREDICTIONS
    assert bare.prior is NO_PREDICTIONS


def test_each_kind_of_router_is_asked_and_kept_for_itself(router):
    other = CountingRouter()
    scorer = Scorer(LoadedRouters({"perceptive": router, "retriever": other}), Metrics())
    router.asked.clear()
    assert scorer.score("ask", "retriever").router == "retriever"
    assert scorer.score("ask").router == "perceptive"
    assert scorer.score("ask", "retriever").router == "retriever"
    assert (router.asked, other.asked) == (["ask"], ["ask"])


def test_a_kind_that_is_not_there_is_answered_by_the_perceptive_router(scorer):
    assert scorer.score("ask", "ensemble").router == "perceptive"


def test_new_routers_forget_what_the_old_ones_said(scorer, router):
    scorer.score("ask")
    scorer.adopt(LoadedRouters({"perceptive": router}))
    router.asked.clear()
    scorer.score("ask")
    assert router.asked == ["ask"]
