from dataclasses import replace

import numpy as np
import pytest

from router_models.perceptive.model import to_quality
from router_models.training.dataset import read_routing_data
from router_models.training.train import DEFAULT_OUTPUT_TOKENS, TrainingOptions, train
from router_models.types import DataError


@pytest.fixture
def data(rows, write):
    return read_routing_data(write(rows))


def picks(router, data):
    return [router.models[int(router.score(p).quality.argmax())] for p in data.prompts]


def test_it_learns_who_is_good_at_what(data):
    router, report = train(data.training())
    wanted = ["coder" if task == "code" else "lawyer" for task in data.evaluation().tasks]
    assert picks(router, data.evaluation()) == wanted
    assert report.task_accuracy == 1
    assert report.squared_error < 0.7 * report.squared_error_mean


def test_it_perceives_the_task(data):
    router, _ = train(data.training())
    assert router.perceive("a python function with a bug")["code"] > 0.8
    assert router.perceive("the court and the plaintiff")["law"] > 0.8
    assert sum(router.perceive("anything").values()) == pytest.approx(1)


def test_what_is_unknown_gets_the_odds_of_the_tasks(data):
    router, _ = train(data.training())
    assert router.perceive("zzz yyy") == pytest.approx({"code": 0.5, "law": 0.5})
    # Its words say nothing; its shape, three letters without a space, says a little.
    rows, weights = router.encoder.words.encode("zzz")
    expected = router.outcome.mean + 0.5 * router.outcome.offsets.sum(axis=0)
    np.testing.assert_allclose(router.read(rows, weights).quality, expected, atol=1e-6)
    np.testing.assert_allclose(router.score("zzz").quality, router.outcome.mean, atol=0.1)


def test_predicted_lengths_follow_the_model(data):
    router, report = train(data.training())
    np.testing.assert_allclose(router.score("python loop").output_tokens, [40, 200], rtol=0.1)
    assert report.output_tokens == "learnt from completion_tokens"


def test_predicted_lengths_are_means_not_medians(data):
    draw = np.random.default_rng(0)
    lengths = np.exp(draw.normal(4.0, 1.0, size=(30, 2)))
    router, _ = train(replace(data.training(), completion_tokens=lengths))
    predicted = [router.score(p).output_tokens for p in data.training().prompts]
    assert np.mean(predicted) == pytest.approx(lengths.mean(), rel=0.15)


def test_unknown_lengths_are_stated(data):
    router, report = train(replace(data.training(), completion_tokens=np.full((30, 2), np.nan)))
    assert router.score("python").output_tokens.tolist() == pytest.approx(
        [DEFAULT_OUTPUT_TOKENS] * 2
    )
    assert "256 are assumed" in report.output_tokens


def test_the_same_data_and_seed_give_the_same_bits(data):
    first, _ = train(data.training(), TrainingOptions(seed=3))
    second, _ = train(data.training(), TrainingOptions(seed=3))
    assert first.version == second.version
    np.testing.assert_array_equal(first.table, second.table)
    np.testing.assert_array_equal(first.error_low, second.error_low)
    assert train(data.training(), TrainingOptions(seed=4))[0].version != first.version


def test_evaluation_rows_do_not_touch_the_router(rows, write):
    flipped = [r | {"score": 1 - r["score"]} if r["split"] == "val" else r for r in rows]
    first, _ = train(read_routing_data(write(rows)).training())
    second, _ = train(read_routing_data(write(flipped)).training())
    assert first.version == second.version


def test_labels_may_be_sparse(rows, write):
    draw = np.random.default_rng(0)
    kept = [r for r in rows if r["split"] == "val" or draw.random() < 0.6]
    data = read_routing_data(write(kept))
    assert np.isnan(data.training().scores).any()
    router, _ = train(data.training())
    assert picks(router, data.evaluation())[0] == "coder"
    assert picks(router, data.evaluation())[-1] == "lawyer"


def test_a_model_that_was_never_measured_gets_the_mean(data):
    scores = data.training().scores.copy()
    scores[:, 1] = np.nan
    router, _ = train(replace(data.training(), scores=scores))
    quality = router.score("zzz").quality
    assert quality[1] == pytest.approx(np.nanmean(scores), abs=0.05)


def test_one_task_needs_no_posterior(rows, write):
    data = read_routing_data(write([r | {"task": "all"} for r in rows]))
    router, report = train(data.training())
    assert router.tasks == ()
    assert router.perceive("python") == {}
    assert report.task_accuracy is None
    assert picks(router, data.evaluation())[0] == "coder"


def test_losses_are_the_target_where_there_are_any(rows, write):
    rows = [r | {"loss": 3.0 - 2 * r["score"]} for r in rows]
    router, report = train(read_routing_data(write(rows)).training())
    assert report.target == router.target == "loss"
    quality = router.score("python function list").quality
    assert quality[0] > np.exp(-2.2) > quality[1]


def test_the_interval_holds_nine_truths_in_ten(rows, write):
    draw = np.random.default_rng(0)
    rows = [r | {"loss": 2 + draw.normal() * 0.3} for r in rows]
    data = read_routing_data(write(rows))
    router, _ = train(data.training())
    inside = []
    for prompt, losses in zip(data.prompts, data.losses, strict=True):
        e = router.score(prompt)
        truth = np.exp(-losses)
        inside += ((truth >= e.quality_low) & (truth <= e.quality_high)).tolist()
    assert 0.85 <= np.mean(inside) <= 1


def test_too_few_prompts_are_refused(data):
    with pytest.raises(DataError, match="9 training prompts; 10 are needed"):
        train(data.training().take(np.arange(9)))


def test_progress_reaches_its_end(data):
    told = []
    train(data.training(), progress=lambda *step: told.append(step))
    assert told[0][1] == 0
    assert told[-1][1] == told[-1][2]


def test_quality_keeps_the_order_and_the_bounds():
    outcomes = np.linspace(-0.1, 1.1, 200)
    quality = to_quality(outcomes, "score")
    assert (np.diff(quality) > 0).all()
    assert quality.min() > 0
    assert quality.max() < 1
    np.testing.assert_array_equal(quality[30:-30], outcomes[30:-30])
    assert to_quality(np.array([0.0, 1.0, -1.0]), "loss").tolist() == [1, np.exp(-1), 1]
