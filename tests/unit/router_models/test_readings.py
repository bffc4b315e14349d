"""A router that was trained to be steady reads a prompt three times of itself."""

import json
from dataclasses import replace

import numpy as np
import pytest

from router_models.artifact import load_suite, save
from router_models.steady import ONCE, THRICE
from router_models.training.dataset import read_routing_data
from router_models.training.suite import train_suite
from router_models.training.train import TrainingOptions
from router_models.types import ArtifactError
from tests.benchmarks.published import macro, pair_apgr
from tests.unit.router_models.conftest import WORDS, outcome_rows

PREFIX = " ".join(WORDS["code"][:8])
BRIEF = " ".join(["the"] * 20 + WORDS["law"][:6])


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path_factory.mktemp("rows") / "d.parquet"
    pq.write_table(pa.Table.from_pylist(outcome_rows()), path)
    return train_suite(read_routing_data(path).training(), TrainingOptions(steady=True))[0]


def lead(suite, prompt):
    quality = suite.score(prompt).quality
    return quality[suite.models.index("coder")] - quality[suite.models.index("lawyer")]


def test_a_prefix_turns_one_reading_and_not_the_median(suite):
    once = replace(suite, skipped=ONCE)
    assert suite.skipped == THRICE
    assert lead(once, BRIEF) < -0.5
    assert lead(once, f"{PREFIX} {BRIEF}") > 0
    assert lead(suite, f"{PREFIX} {BRIEF}") == pytest.approx(lead(suite, BRIEF), abs=0.05)


def test_every_kind_and_the_perceived_tokens_come_from_the_whole(suite):
    once = replace(suite, skipped=ONCE)
    prompt = f"{PREFIX} {BRIEF}"
    np.testing.assert_array_equal(
        suite.score(prompt).output_tokens, once.score(prompt).output_tokens
    )
    np.testing.assert_array_equal(suite.score("judge").quality, once.score("judge").quality)


def test_an_artifact_keeps_how_often_it_reads(suite, tmp_path):
    for skipped in (THRICE, ONCE):
        saved = save(replace(suite, skipped=skipped), tmp_path / "a", training={}, metrics={})
        assert saved.skipped == load_suite(tmp_path / "a").skipped == skipped


@pytest.mark.parametrize("skipped", [[], [0.3], [0.0, 1.0], [0.0, -0.1], [0.0] * 10, "no", [None]])
def test_an_artifact_that_reads_impossibly_is_refused(suite, tmp_path, skipped):
    save(suite, tmp_path / "a", training={}, metrics={})
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"skipped": skipped}))
    with pytest.raises(ArtifactError, match=r"skipped|float"):
        load_suite(tmp_path / "a")


def test_an_artifact_of_before_reads_once(suite, tmp_path):
    save(suite, tmp_path / "a", training={}, metrics={})
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    del manifest["skipped"]
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(manifest))
    assert load_suite(tmp_path / "a").skipped == ONCE


def test_the_published_figures_know_a_perfect_and_a_useless_router():
    scores = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]] * 25)
    knows = scores - [[0.0, 1e-3]]
    # All that is to be gained comes with the first half of the prompts.
    assert pair_apgr(scores, knows) == pytest.approx(0.75)
    assert pair_apgr(scores, np.zeros_like(scores)) == pytest.approx(0.5, abs=0.02)
    assert macro(scores, scores, np.arange(100) % 4) == pytest.approx(75.0)
    assert macro(scores, -scores, np.arange(100) % 4) == pytest.approx(25.0)
