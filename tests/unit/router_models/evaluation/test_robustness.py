"""Variants and attacks against routers whose weaknesses are known."""

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given, strategies

from router_models.evaluation.gadgets import Search, find_gadgets, random_prefixes, wins
from router_models.evaluation.gate import Gate, half_way_gate
from router_models.evaluation.html import render_page
from router_models.evaluation.perturb import KINDS, perturb
from router_models.evaluation.robustness import assess_robustness
from router_models.training.dataset import read_routing_data
from router_models.types import DataError, Estimates

QUICK = Search(gadgets=4, words=3, rounds=6, candidates=6, prompts=4)


class Reader:
    """Prefers ``lawyer`` by whatever it is told to see in a prompt."""

    models = ("coder", "lawyer")
    version = "reader"

    def __init__(self, sees):
        self._sees = sees

    def score(self, prompt):
        quality = np.array([0.5, 0.5 + 0.4 * np.tanh(self._sees(prompt))])
        return Estimates(self.models, quality, quality - 0.1, quality + 0.1, np.full(2, 10.0))


def counts(*words):
    return lambda prompt: sum(prompt.lower().count(word) for word in words) - 0.5


@pytest.fixture
def data(rows, write):
    """One more task is the lawyer's: it is the stronger of the two."""
    more = [r | {"prompt_id": f"more-{r['prompt_id']}"} for r in rows if r["task"] == "law"]
    return read_routing_data(write(rows + more))


def by_kind(robustness):
    return {row.kind: row for row in robustness.variants}


@given(strategies.text(), strategies.sampled_from(sorted(KINDS)), strategies.integers())
def test_any_text_can_be_perturbed_and_always_the_same_way(text, kind, seed):
    assert perturb(text, kind, Random(seed)) == perturb(text, kind, Random(seed))


@given(strategies.text(), strategies.integers())
def test_whitespace_changes_whitespace_alone(text, seed):
    assert perturb(text, "whitespace", Random(seed)).split() == text.split()


@given(strategies.text("abc ,."), strategies.integers())
def test_case_changes_case_alone(text, seed):
    assert perturb(text, "case", Random(seed)).lower() == text.lower()


def test_typos_and_paraphrases_change_some_words_and_keep_most():
    text = (
        "How many apples does Ann buy if each apple costs two dollars and she wants a total of ten"
    )
    for kind in ("typo", "paraphrase"):
        variants = {perturb(text, kind, Random(seed)) for seed in range(20)}
        assert len(variants) > 10
        for variant in variants:
            common = set(variant.lower().split()) & set(text.lower().split())
            assert len(common) >= len(set(text.split())) / 2


def test_a_router_that_reads_words_keeps_its_choice_in_any_case(data):
    report = assess_robustness(Reader(counts("court", "judge", "law")), data, search=QUICK)
    kinds = by_kind(report)
    assert kinds["case"].stable_best.value == 1
    assert kinds["whitespace"].stable_gate.value == 1
    assert kinds["case"].loss_change.value == 0
    assert report.prompts == len(data.evaluation().prompts)


def test_a_router_that_reads_case_is_found_out(data):
    report = assess_robustness(Reader(lambda p: -1.0 if p.islower() else 1.0), data, search=QUICK)
    assert by_kind(report)["case"].stable_best.value < 0.5
    assert by_kind(report)["whitespace"].stable_best.value == 1


def test_a_router_that_one_word_can_turn_loses_every_prompt(data):
    report = assess_robustness(
        Reader(counts("plaintiff")), data, search=Search(4, words=4, rounds=40, candidates=8)
    )
    assert [row.gate for row in report.gadgets] == ["best", "half"]
    for row in report.gadgets:
        assert row.won.value == 1
        assert "plaintiff" in row.example
        assert row.random_won < 1
        assert row.strong == "lawyer"


def test_a_router_that_ignores_the_start_cannot_be_attacked_from_there(data):
    report = assess_robustness(
        Reader(lambda p: counts("court", "judge", "tort")(p[-30:])), data, search=QUICK
    )
    assert [row.won.value for row in report.gadgets] == [0, 0]
    assert [row.gadgets for row in report.gadgets] == [4, 4]


def test_where_every_prompt_goes_to_the_strong_model_nothing_is_won(data):
    best, half = assess_robustness(
        Reader(lambda p: 1.0 + p.count("court")), data, search=QUICK
    ).gadgets
    assert best.kept == 0
    assert np.isnan(best.won.value)
    assert half.kept > 0


def test_the_report_repeats_and_prints(data):
    from dataclasses import replace

    from router_models.evaluation.evaluate import evaluate

    router = Reader(counts("court", "judge"))
    first, second = (assess_robustness(router, data, search=QUICK) for _ in range(2))
    assert first == second
    evaluation = replace(evaluate(router, data), robustness=first)
    page = render_page(evaluation)
    assert "Robustness" in page
    assert page.count("prefixes found by search") == 2
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_without_training_prompts_the_attacker_gets_a_third(rows, write):
    held_out = [r for r in rows if r["split"] != "train"]
    data = read_routing_data(write(held_out))
    report = assess_robustness(Reader(counts("court")), data, search=QUICK)
    assert report.prompts == len(data.prompts) - len(data.prompts) // 3


def test_a_router_for_other_models_is_refused(rows, write):
    data = read_routing_data(write([r | {"model": r["model"] + "-2"} for r in rows]))
    with pytest.raises(DataError, match="two of coder, lawyer"):
        assess_robustness(Reader(counts("court")), data, search=QUICK)


def test_the_gate_sends_half_to_the_strong_model():
    quality = np.random.default_rng(0).random((1000, 3))
    gate = half_way_gate(quality, 1)
    assert gate.escalates(quality).mean() == pytest.approx(0.5, abs=0.002)
    np.testing.assert_allclose(
        gate.margins(quality), quality[:, 1] - np.maximum(quality[:, 0], quality[:, 2])
    )


def test_random_prefixes_are_where_the_search_starts():
    prompts = ["alpha beta gamma", "delta epsilon"]

    def never(texts):
        return np.zeros((len(texts), 2))

    start = random_prefixes(prompts, QUICK, seed=5)
    assert start == find_gadgets(never, Gate(0, 0.0), prompts, QUICK, seed=5)
    assert all(len(prefix.split()) == QUICK.words for prefix in start)
    assert wins(never, Gate(0, 0.0), start, prompts).shape == (4, 2)
