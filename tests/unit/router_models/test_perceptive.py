"""The router trained on the outcomes that ship with the package."""

import time

import numpy as np
import pytest

from router_models.prompt_text import HEAD_CHARS, TAIL_CHARS

STRANGE = {
    "empty": "",
    "blank": " \t\n ",
    "emoji": "👩‍👩‍👧‍👦 🔥" * 500,
    "nul": "a\x00b\x00",
    "lone surrogate": "x\ud800y\udfff",
    "right to left": "\u202eabc שלום",
    "combining": "e\u0301" * 3000,
    "ten megabytes": "word " * 2_000_000,
    "one long word": "a" * 1_000_000,
    "digits": "7" * 100_000,
}


@pytest.mark.parametrize("prompt", STRANGE.values(), ids=STRANGE)
def test_any_string_is_answered(router, prompt):
    estimates = router.score(prompt)
    for array in (estimates.quality, estimates.quality_low, estimates.quality_high):
        assert array.shape == (5,)
        assert array.dtype == np.float64
        assert ((array >= 0) & (array <= 1)).all()
    assert (estimates.quality_low <= estimates.quality).all()
    assert (estimates.quality <= estimates.quality_high).all()
    assert (estimates.output_tokens >= 1).all()
    assert np.isfinite(estimates.output_tokens).all()


def test_a_long_prompt_costs_no_more_than_its_clipped_part(router):
    def seconds(prompt):
        began = time.perf_counter()
        router.score(prompt)
        return time.perf_counter() - began

    clipped = "a b " * ((HEAD_CHARS + TAIL_CHARS) // 4)
    huge = "a b " * 2_500_000
    assert min(seconds(huge) for _ in range(5)) < 5 * min(seconds(clipped) for _ in range(5))


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("Write a python function that reverses a string", "code"),
        ("class Stack:\n    def push(self, item):", "code"),
        ("Sam earns $15 per hour and works 40 hours a week. What is his monthly salary?", "math"),
        ("A shirt costs $20 and is 25% off. How much do I pay?", "math"),
        ("Do statins reduce mortality in elderly patients with heart failure?", "clinical"),
        ("Is laparoscopic surgery safer than open surgery for appendicitis?", "clinical"),
        ("The substrate may be formed of silicon, and the layer may be deposited by", "patents"),
        ("A sensor configured to transmit a signal to the processor", "patents"),
    ],
)
def test_short_questions_reach_the_expert_of_their_domain(router, prompt, task):
    best = router.models[int(router.score(prompt).quality.argmax())]
    assert best == f"smollm2-135m-{task}"


def test_scoring_does_not_depend_on_what_was_scored_before(router):
    first = router.score("def f(x):")
    router.score("The patient was given aspirin")
    np.testing.assert_array_equal(router.score("def f(x):").quality, first.quality)
