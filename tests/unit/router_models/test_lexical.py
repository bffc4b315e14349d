import numpy as np
import pytest

from router_models.encoders.lexical import LexicalEncoder, fit_lexical, hash_text

TEXTS = ["the cat sat", "the dog sat", "the cat ran", "x = 1"]


def fit(**options) -> LexicalEncoder:
    return fit_lexical(TEXTS, max_rows=100, use_idf=True, **options)


def test_only_tokens_of_two_texts_own_a_row():
    # the, cat, sat and the pair "the cat" occur twice or more.
    assert fit().rows == 4


def test_rows_are_unique_and_the_vector_is_no_longer_than_one():
    rows, weights = fit().encode("the cat the cat the cat sat")
    assert len(set(rows.tolist())) == len(rows) == 4
    assert weights @ weights <= 1 + 1e-6


def test_known_text_has_unit_length_and_unknown_words_shorten_it():
    encoder = fit()
    full = encoder.encode("the cat")[1]
    thin = encoder.encode("the cat zebra yonder")[1]
    assert full @ full == pytest.approx(1.0, abs=1e-6)
    assert thin @ thin < 0.5
    assert encoder.encode("zebra yonder")[1].size == 0


def test_repeated_words_count_by_their_logarithm():
    encoder = fit_lexical(["a b"] * 2, max_rows=10, use_idf=False)
    rows, weights = encoder.encode("a a a a b")
    of = dict(zip(encoder.known[rows].tolist(), weights.tolist(), strict=True))
    a, b = (of[int(hash_text(word, encoder.buckets)[0])] for word in ("a", "b"))
    assert a / b == pytest.approx(1 + np.log(4), rel=1e-5)


def test_rare_tokens_weigh_more_than_common_ones():
    encoder = fit()
    the, cat = (int(hash_text(word, encoder.buckets)[0]) for word in ("the", "cat"))
    position = {int(bucket): i for i, bucket in enumerate(encoder.known)}
    assert encoder.idf[position[cat]] > encoder.idf[position[the]]


def test_the_order_of_a_pair_matters():
    assert set(hash_text("a b", 2**18)) != set(hash_text("b a", 2**18))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello hello", 2),
        ("x+=1", 4),
        ("12345", 2),
        ("naïve", 1),
        ("为什么", 3),
        ("a\nb", 3),
        ("snake_case", 3),
        ("   ", 0),
    ],
)
def test_tokens(text, tokens):
    assert len(hash_text(text, 2**18)) == tokens + max(tokens - 1, 0)


def test_case_does_not_matter():
    assert hash_text("DEF Foo", 2**18).tolist() == hash_text("def foo", 2**18).tolist()


def test_the_most_frequent_tokens_are_kept():
    encoder = fit_lexical(TEXTS, max_rows=1, use_idf=True)
    assert encoder.known.tolist() == [int(hash_text("the", encoder.buckets)[0])]


@pytest.mark.parametrize(
    ("buckets", "known", "idf"), [(100, [1], [1.0]), (8, [9], [1.0]), (8, [1, 2], [1.0])]
)
def test_impossible_encoders_are_refused(buckets, known, idf):
    with pytest.raises(ValueError, match="bucket"):
        LexicalEncoder(buckets, np.array(known, np.uint32), np.array(idf, np.float32), 1.0)
