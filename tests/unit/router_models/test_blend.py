import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.encoders.blend import BlendEncoder, fit_blend
from router_models.encoders.shape import SHAPES, shape_of

#: Length, numbers, sentences, commas, largest number, quantities, decimals, names, amounts.
GROWS = [0, 1, 3, 4, 5, 10, 11, 12, 13, 14]
TEXTS = ["How many apples?", "Tom has 3 apples. Ann has 12. How many in total?", "the cat\n\nsat"]


def fit(share: float = 1.0) -> BlendEncoder:
    return fit_blend([*TEXTS, *TEXTS], max_rows=100).with_shape(share)


def test_words_come_first_and_the_shape_last():
    encoder = fit()
    rows, weights = encoder.encode(TEXTS[1])
    assert (np.diff(rows) > 0).all()
    assert rows[-SHAPES:].tolist() == list(range(encoder.word_rows, encoder.rows))
    words = encoder.words.encode(TEXTS[1])
    np.testing.assert_array_equal(rows[:-SHAPES], words[0])
    np.testing.assert_array_equal(weights[:-SHAPES], words[1])


def test_the_share_is_the_mean_squared_length_of_training_shapes():
    for share in (0.3, 1.0, 3.0):
        encoder = fit_blend(TEXTS[:2], max_rows=100).with_shape(share)
        shapes = np.array([encoder.encode(text)[1][-SHAPES:] for text in TEXTS[:2]])
        varying = (shapes.std(axis=0) > 0).mean()
        assert np.square(shapes).sum(axis=1).mean() == pytest.approx(share * varying, rel=1e-5)


def test_without_a_share_and_without_a_text_there_is_no_shape():
    encoder = fit(0.0)
    np.testing.assert_array_equal(encoder.encode(TEXTS[0])[0], encoder.words.encode(TEXTS[0])[0])
    assert fit().encode("")[0].size == 0
    np.testing.assert_array_equal(fit().encode(" \n")[0], fit().words.encode(" \n")[0])


def test_a_shape_far_out_is_bounded():
    weights = fit().encode("9" * 5_000)[1]
    assert np.square(weights[-SHAPES:]).sum() <= 9.0 + 1e-6


def test_a_longer_sum_with_more_names_has_a_larger_shape():
    few, many = (
        shape_of("Tom has 3."),
        shape_of("Tom has 3. Ann, Bob and Eve have 17.5, half of it."),
    )
    assert (many[GROWS] > few[GROWS]).all()


def test_amounts_in_words_count_and_turns_do_too():
    plain, worded, turned = map(
        shape_of,
        ("Ann has 3 apples.", "Ann has three apples.", "If Ann has three times 5% after that."),
    )
    amounts, turns = 14, 15
    assert plain[amounts] == worded[amounts] == pytest.approx(np.log(2))
    assert worded[turns] == 0
    assert turned[turns] == pytest.approx(np.log(5))


@given(st.text())
def test_every_text_has_a_finite_shape(text):
    shape = shape_of(text)
    assert shape.shape == (SHAPES,)
    assert np.isfinite(shape[~np.isnan(shape)]).all()
    rows, weights = fit().encode(text)
    assert np.isfinite(weights).all()
    assert len(rows) == len(weights)


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_writing_a_text_in_another_case_changes_little(change):
    encoder = fit()
    before, after = encoder.encode(TEXTS[1]), encoder.encode(change(TEXTS[1]))
    np.testing.assert_array_equal(before[0], after[0])
    assert np.flatnonzero(np.abs(before[1] - after[1]) > 1e-6).size <= 2


@pytest.mark.parametrize(
    ("mean", "scale", "share"),
    [(2, np.ones(SHAPES), 1.0), (SHAPES, np.zeros(SHAPES), 1.0), (SHAPES, np.ones(SHAPES), -1.0)],
)
def test_impossible_encoders_are_refused(mean, scale, share):
    with pytest.raises(ValueError, match="shape_"):
        BlendEncoder(fit().words, np.zeros(mean), scale, share)
