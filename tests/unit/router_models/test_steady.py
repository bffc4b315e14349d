"""The median of five readings, of a router whose weakness is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies

from router_models.prompt_text import clip
from router_models.steady import MIN_WORDS, ONCE, SKIPPED, median_of, starts_of
from router_models.types import Estimates

LONG = " ".join(f"word{n}" for n in range(40))
SHORT = "one two three four"


class Steady:
    """Reads by another router, as a suite does by its own."""

    def __init__(self, router):
        self.router = router

    def score(self, prompt):
        text = clip(prompt)
        whole, *tails = [self.router.score(text[at:]) for at in starts_of(text, SKIPPED)]
        return median_of(whole, np.array([e.quality for e in tails])) if tails else whole


class Turned:
    """Prefers ``large`` as soon as a text holds the magic word, and counts its calls."""

    models = ("small", "large")
    version = "turned"

    def __init__(self):
        self.texts = []

    def score(self, prompt):
        self.texts.append(prompt)
        quality = np.array([0.5, 0.9 if "magic" in prompt else 0.3])
        return Estimates(
            self.models, quality, quality - 0.1, quality + 0.1, np.full(2, float(len(prompt)))
        )


def lead(router, prompt):
    quality = router.score(prompt).quality
    return quality[1] - quality[0]


@pytest.mark.parametrize("words", [1, 5, 10])
def test_a_prefix_turns_the_router_and_not_its_median(words):
    attacked = "magic " * words + LONG
    assert lead(Turned(), attacked) > 0
    assert lead(Steady(Turned()), attacked) < 0


def test_what_the_whole_text_says_still_counts():
    assert lead(Steady(Turned()), f"{LONG} magic") > 0


def test_readings_leave_out_more_and_more_of_the_start():
    inner = Turned()
    Steady(inner).score(LONG)
    assert [len(text.split()) for text in inner.texts] == [40, 32, 28, 24, 20]
    assert all(LONG.endswith(text) for text in inner.texts)


def test_a_short_text_is_read_once_and_as_it_is():
    inner = Turned()
    plain, steady = inner.score(SHORT), Steady(inner).score(SHORT)
    assert inner.texts == [SHORT, SHORT]
    np.testing.assert_array_equal(plain.quality, steady.quality)
    ten = " ".join(["w"] * (MIN_WORDS + 2))
    Steady(inner).score(ten)
    assert len(inner.texts) == 4


def test_a_very_long_text_costs_no_more_than_its_clipped_part():
    inner = Turned()
    Steady(inner).score("word " * 1_000_000)
    assert sum(map(len, inner.texts)) < 5 * 8_100


def test_without_a_prefix_estimates_are_the_router_s_own():
    plain, steady = Turned().score(LONG), Steady(Turned()).score(LONG)
    np.testing.assert_allclose(steady.quality, plain.quality)
    np.testing.assert_allclose(steady.quality_low, plain.quality_low)
    np.testing.assert_allclose(steady.quality_high, plain.quality_high)
    assert steady.output_tokens.tolist() == plain.output_tokens.tolist()


@given(strategies.text(strategies.sampled_from("ab \n\tmagic\u00a0é")))
def test_any_text_is_answered_within_bounds(text):
    estimates = Steady(Turned()).score(text)
    assert ((estimates.quality >= 0) & (estimates.quality <= 1)).all()
    assert (estimates.quality_low <= estimates.quality).all()
    assert (estimates.quality <= estimates.quality_high).all()


def test_the_version_tells_that_it_reads_otherwise(suite):
    assert suite.steadied().version == f"{suite.version}-steady"
    assert suite.steadied().models == suite.models


def test_the_shipped_router_keeps_its_choices(suite, expert_library):
    import pyarrow.parquet as pq

    prompts = sorted(set(pq.read_table(expert_library)["prompt"].to_pylist()))[::40]
    once, steady = replace(suite, skipped=ONCE), suite.steadied()
    same = [once.score(p).quality.argmax() == steady.score(p).quality.argmax() for p in prompts]
    assert np.mean(same) > 0.9
