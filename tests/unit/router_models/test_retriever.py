from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.artifact import load_suite
from router_models.retriever.library import summarise
from router_models.retriever.search import NEAREST, ExactSearch, GraphSearch, open_search
from router_models.training.dataset import read_routing_data
from router_models.training.fit_pilots import PilotOptions
from router_models.training.suite import train_suite
from router_models.types import DataError


@pytest.fixture
def data(rows, write):
    return read_routing_data(write(rows))


@pytest.fixture
def suite(data):
    return train_suite(data.training(), pilots=PilotOptions())[0]


@pytest.fixture(scope="module")
def shipped(trained):
    return load_suite(trained).retriever


def picks(router, data):
    return [router.models[int(router.score(p).quality.argmax())] for p in data.prompts]


def test_it_learns_who_is_good_at_what(suite, data):
    wanted = ["coder" if task == "code" else "lawyer" for task in data.evaluation().tasks]
    assert picks(suite.retriever, data.evaluation()) == wanted


def test_lengths_come_from_the_pilots(suite):
    tokens = suite.retriever.score("python loop").output_tokens
    np.testing.assert_allclose(tokens, [40, 200], rtol=0.1)


def test_far_from_every_pilot_the_overall_means_remain(suite):
    router = suite.retriever
    for prompt in ("", "zzz yyy xxx"):
        np.testing.assert_allclose(router.score(prompt).quality, router.library.priors, atol=0.02)
    assert router.explain("zzz yyy xxx") == ()


def test_the_literal_rule_is_the_mean_similarity_of_the_pilots_a_model_wins(data):
    options = PilotOptions(rule="literal")
    router = train_suite(data.training(), pilots=options)[0].retriever
    library = router.library
    prompt = "a python function with a bug"
    direction, _ = router.locate(*router.encoder.encode(prompt))
    similar = library.centroids @ direction
    winners = library.winners()
    wanted = [(1 + similar[winners == m].mean()) / 2 for m in range(2)]
    np.testing.assert_allclose(router.score(prompt).quality, wanted, rtol=1e-5)
    pairs = zip(data.training().tasks, data.training().scores.argmax(axis=1), strict=True)
    assert len(library.names) == len(set(pairs)) > 2


def test_a_pilot_is_what_was_measured_there(shipped, expert_library):
    data = read_routing_data(expert_library).training()
    library = shipped.library
    known = {}
    for i, prompt_id in enumerate(data.prompt_ids):
        known[prompt_id] = data.losses[i]
    whole = np.flatnonzero(library.sizes <= 5)
    assert whole.size
    for pilot in whole:
        outcomes = np.array([known[p.prompt_id] for p in library.prompts[pilot]])
        np.testing.assert_allclose(library.means[pilot], outcomes.mean(axis=0))
    assert library.sizes.sum() == len(data.prompts)
    np.testing.assert_allclose(np.linalg.norm(library.centroids, axis=1), 1, atol=2e-3)


def test_neighbours_are_told_nearest_first_with_their_outcomes(shipped, expert_library):
    data = read_routing_data(expert_library).training()
    found = shipped.explain(data.prompts[0], 4)
    assert len(found) == 4
    assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
    assert found[0].name == data.tasks[0]
    assert set(found[0].outcomes) == set(shipped.models)
    assert all(error > 0 for _, error, _ in found[0].outcomes.values())


def test_a_removed_model_leaves_the_others_as_they_were(shipped):
    library = shipped.library
    gone = library.models[2]
    fewer = replace(
        shipped,
        library=library.without_model(gone),
        error_low=np.delete(shipped.error_low, 2),
        error_high=np.delete(shipped.error_high, 2),
    )
    before, after = shipped.score("def f(x):"), fewer.score("def f(x):")
    assert after.models == tuple(m for m in before.models if m != gone)
    np.testing.assert_array_equal(after.quality, np.delete(before.quality, 2))
    with pytest.raises(DataError, match="do not know"):
        fewer.library.without_model(gone)


def test_two_models_must_remain(suite):
    with pytest.raises(DataError, match="two or more"):
        suite.retriever.library.without_model("coder")


def test_labels_may_be_sparse(rows, write):
    draw = np.random.default_rng(0)
    kept = [r for r in rows if r["split"] == "val" or draw.random() < 0.6]
    data = read_routing_data(write(kept))
    router = train_suite(data.training(), pilots=PilotOptions())[0].retriever
    assert picks(router, data.evaluation())[0] == "coder"
    assert picks(router, data.evaluation())[-1] == "lawyer"


def test_evaluation_rows_do_not_touch_the_pilots(rows, write):
    flipped = [r | {"score": 1 - r["score"]} if r["split"] == "val" else r for r in rows]
    libraries = [
        train_suite(read_routing_data(write(some)).training(), pilots=PilotOptions())[0]
        for some in (rows, flipped)
    ]
    first, second = (suite.retriever for suite in libraries)
    np.testing.assert_array_equal(first.library.means, second.library.means)
    np.testing.assert_array_equal(first.error_low, second.error_low)


def test_the_interval_holds_nine_truths_in_ten(rows, write):
    draw = np.random.default_rng(0)
    rows = [r | {"loss": 2 + draw.normal() * 0.3} for r in rows]
    data = read_routing_data(write(rows))
    router = train_suite(data.training(), pilots=PilotOptions())[0].retriever
    inside = []
    for prompt, losses in zip(data.prompts, data.losses, strict=True):
        e = router.score(prompt)
        truth = np.exp(-losses)
        inside += ((truth >= e.quality_low) & (truth <= e.quality_high)).tolist()
    assert 0.85 <= np.mean(inside) <= 1


def test_the_index_finds_what_exact_search_finds():
    draw = np.random.default_rng(0)
    centroids = draw.normal(size=(3_000, 16)).astype(np.float32)
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    exact, index = ExactSearch(centroids), GraphSearch(centroids)
    for query in centroids[:20]:
        (wanted, similar), (found, cosines) = exact.nearest(query), index.nearest(query)
        assert len(set(wanted) & set(found)) >= 0.9 * NEAREST
        assert cosines.max() == pytest.approx(similar.max(), abs=2e-3)
    assert isinstance(open_search(centroids), ExactSearch)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.just(float("nan")), st.floats(0, 1))),
        min_size=1,
        max_size=30,
    )
)
def test_a_summary_is_means_and_counts_of_what_is_known(pairs):
    groups = np.array([g for g, _ in pairs], np.int64)
    values = np.array([v for _, v in pairs])
    summary = summarise(groups, 4, values, np.full(len(pairs), np.nan))
    for group in range(4):
        own = values[(groups == group) & ~np.isnan(values)]
        assert summary.measured[group] == own.size
        assert summary.mean[group] == pytest.approx(own.mean() if own.size else 0)
        assert summary.error[group] >= 0
        assert own.size or summary.error[group] == 0
