"""A text and what is left without its beginning, read at once, are what each is by itself."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router_models.encoders.blend import fit_blend
from router_models.encoders.lexical import hash_tails, hash_text
from router_models.encoders.shape import shape_of, shapes_of
from router_models.encoders.tails import pieces_of
from router_models.prompt_text import clip
from router_models.steady import SKIPPED, starts_of

MIXED = (
    "\n\n  Tom (aged 12) paid $3,500.25! Half of it?\n\nΣΑΣ ΟΔΟΣ\u00a0Ǆ twice 5% İ x=1 猫 😀 Ann\n"
)
TEXTS = st.one_of(
    st.text(st.sampled_from("aB3.,!?$%\n\t \u00a0\u3000\x1c'éΣ猫-="), max_size=120),
    st.lists(st.sampled_from([*MIXED.split(), "\n", "per", "12.5", "Ann"])).map(" ".join),
)
ENCODER = fit_blend([MIXED, f"{MIXED} {MIXED}", "Ann has 3 apples."], max_rows=100).with_shape(1.0)


@given(TEXTS)
@example(MIXED * 4)
@example(MIXED * 400)
@example("\ud800 a b c d e f g h i j k l\n")
def test_reading_once_and_reading_every_tail_agree_to_the_bit(written):
    text = clip(written)
    starts = starts_of(text, SKIPPED)
    tails = [text[start:] for start in starts]
    for tail, hashes in zip(tails, hash_tails(text, starts, 2**18), strict=True):
        np.testing.assert_array_equal(hashes, hash_text(tail, 2**18))
    np.testing.assert_array_equal(shapes_of(text, starts), [shape_of(tail) for tail in tails])
    for tail, (rows, weights) in zip(tails, ENCODER.encode_tails(text, starts), strict=True):
        expected = ENCODER.encode(tail)
        np.testing.assert_array_equal(rows, expected[0])
        np.testing.assert_array_equal(weights, expected[1])


def test_what_spans_a_cut_is_counted_once():
    text = "one half; " * 10
    phrase, words = 9, 1
    whole, tail = shapes_of(text, (0, text.index("half", 40)))
    assert np.expm1(whole[phrase]) == pytest.approx(len(text))
    assert np.expm1(tail[phrase]) == pytest.approx(len(text) - text.index("half", 40))
    assert np.expm1([whole[words], tail[words]]) == pytest.approx([20, 11])


def test_pieces_make_up_the_text():
    assert pieces_of("a bc d", (0, 2, 5)) == ["a ", "bc ", "d"]
    assert pieces_of("", (0,)) == [""]
