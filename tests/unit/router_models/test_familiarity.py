"""Prompts unlike any trained on get what is expected of any prompt."""

import numpy as np
import pytest

from router_models.training.dataset import read_routing_data
from router_models.training.fit_pilots import PilotOptions
from router_models.training.suite import train_suite
from tests.benchmarks.familiarity import auroc

KINDS = ("perceptive", "retriever", "ensemble")
#: Nobody trained on these; the first is what two routers read as two different tasks.
STRANGE = ("def fibonacci(n):", "hello", "Ein Mann geht in den Wald", "", "🦀" * 50)


@pytest.fixture(scope="module")
def data(expert_library):
    return read_routing_data(expert_library)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", STRANGE)
def test_a_strange_prompt_gets_what_is_expected_of_any(suite, data, prompt, kind):
    found = suite.score(prompt, kind)
    assert found.is_far
    assert found.nearness < suite.retriever.reach
    best = int(np.nanmean(data.training().losses, axis=0).argmin())
    assert found.quality.argmax() == best
    assert (found.quality_low.tolist(), found.quality_high.tolist()) == ([0] * 5, [1] * 5)


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_a_prompt_of_the_evaluation_split_is_strange(suite, data, kind):
    far = [suite.score(p, kind).is_far for p in data.evaluation().prompts]
    assert np.mean(far) < 0.005


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("import os\nprint(os.getcwd())", "code"),
        ("What is 17 * 24?", "math"),
        ("The patient was given aspirin", "clinical"),
        ("A method for producing a semiconductor device", "patents"),
    ],
)
def test_short_prompts_that_both_routers_read_alike_are_routed(suite, prompt, task):
    found = suite.score(prompt)
    assert not found.is_far
    assert found.models[int(found.quality.argmax())] == f"smollm2-135m-{task}"


def test_prompts_of_a_task_that_was_left_out_are_less_near(data):
    kept = np.flatnonzero(np.array(data.training().tasks) != "math")
    suite = train_suite(data.training().take(kept), pilots=PilotOptions())[0]
    held = data.evaluation()
    nearness = np.array([suite.score(p).nearness for p in held.prompts])
    is_strange = np.array(held.tasks) == "math"
    assert auroc(nearness[~is_strange], nearness[is_strange]) > 0.97


def test_a_steady_router_says_so_too(suite):
    assert suite.steadied().score("Ein Mann geht in den Wald", "ensemble").is_far


def test_without_pilots_nobody_can_tell(data):
    suite = train_suite(data.training())[0]
    found = suite.score("hello")
    assert (found.nearness, found.is_far) == (None, False)
