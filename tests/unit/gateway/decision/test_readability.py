"""How readable answers are: the formula by hand, and how a model's number follows its answers."""

import json

import pytest

from gateway.decision.readability import (
    EVERY,
    MAX_STREAM_BYTES,
    Readability,
    Sample,
    reading_ease,
    text_of_answer,
    text_of_stream,
)

#: Twenty words of one syllable in four sentences: 206.835 - 1.015 · 5 - 84.6 = 117.16, above 1.
PLAIN = "The cat sat on it. " * 4
#: Twenty words of four syllables in one sentence: far below 0.
HARD = "institution " * 20 + "."
#: Ten words of one syllable and ten of two, two sentences: 206.835 - 10.15 - 126.9 = 69.785.
MIXED = ("cat " * 5 + "garden " * 5 + ". ") * 2


@pytest.mark.parametrize(("text", "ease"), [(PLAIN, 1.0), (HARD, 0.0), (MIXED, 0.69785)])
def test_the_formula(text, ease):
    assert reading_ease(text) == pytest.approx(ease)


def test_a_silent_e_is_no_syllable():
    assert reading_ease("make " * 20) == reading_ease("cat " * 20)
    assert reading_ease("table " * 20) == reading_ease("garden " * 20)


def test_code_and_short_texts_say_nothing():
    assert reading_ease("cat " * 19) is None
    assert reading_ease("cat " * 5 + "```\n" + "institution " * 50 + "\n```") is None
    assert reading_ease("cat " * 20 + "```" + HARD) == reading_ease("cat " * 20)


def test_lists_are_sentences():
    assert reading_ease(
        "- " + "garden " * 5 + "\n- " + "garden " * 5 + ("\n1 " + "cat " * 5) * 2
    ) > (reading_ease("garden " * 10 + "cat " * 10))


def test_what_is_declared_gives_way_to_what_is_measured():
    readability = Readability(0.5)
    assert readability.value == 0.5
    readability.note(PLAIN)
    assert readability.value == pytest.approx(0.5 + 0.5 / 9)
    for _ in range(500):
        readability.note(PLAIN)
    assert readability.value > 0.9
    readability.note(HARD)
    assert readability.value == pytest.approx(readability.value, abs=1 / 200)


def test_nothing_is_known_before_eight_answers():
    readability = Readability(None)
    for answers in range(8):
        assert readability.value is None, answers
        readability.note(MIXED)
        readability.note("too short")
    assert readability.value == pytest.approx(0.69785)


def test_a_share_of_the_answers_is_measured():
    readability = Readability(None)
    assert sum(readability.wants_answer() for _ in range(10 * EVERY)) == 10
    assert Readability(None).wants_answer()


def test_the_words_of_answers():
    chat = {"choices": [{"message": {"content": "Hi"}}, {"message": {"content": "other"}}]}
    assert text_of_answer(json.dumps(chat).encode()) == "Hi"
    assert text_of_answer(json.dumps({"choices": [{"text": "Hi"}]}).encode()) == "Hi"
    assert text_of_answer(b'{"output": []}') == ""
    assert text_of_answer(b"[1") == ""


def test_the_words_of_a_stream():
    class Nowhere:
        def write(self, data):
            return True

    sample = Sample(Nowhere())
    for word in ("Hi ", "there"):
        chunk = {"choices": [{"delta": {"content": word}}]}
        sample.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    sample.write(b": a comment\n\ndata: [DONE]\n\n")
    assert text_of_stream(bytes(sample.sent)) == "Hi there"
    for _ in range(10):
        sample.write(b"x" * MAX_STREAM_BYTES)
    assert len(sample.sent) < 2 * MAX_STREAM_BYTES
