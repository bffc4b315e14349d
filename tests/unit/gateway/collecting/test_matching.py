"""Each rule of matching by what it takes and what it does not."""

from __future__ import annotations

import pytest

from gateway.collecting.judging import comparison, read_comparison, settle
from gateway.collecting.matching import RULES, choice, last_number, match, normalise


@pytest.mark.parametrize(
    ("rule", "answer", "reference", "matches"),
    [
        ("exact", " Paris \n", "Paris", True),
        ("exact", "paris", "Paris", False),
        ("normalised", "The  Eiffel-Tower!", "eiffel tower", True),
        ("normalised", "It is the Eiffel Tower", "Eiffel Tower", False),
        ("normalised", "ﬁne", "fine", True),
        ("numeric", "3 + 4 is 7, so she has 7 apples.", "#### 7", True),
        ("numeric", "It costs $1,234.50", "1234.5", True),
        ("numeric", "-3", "3", False),
        ("numeric", "−3 degrees", "-3", True),
        ("numeric", "1e3", "1000", True),
        ("numeric", "about .5", "0.5", True),
        ("numeric", "70", "7", False),
        ("numeric", "I do not know", "7", False),
        ("contains", "I think it is Paris, France.", "paris", True),
        ("contains", "Parisian", "Paris", False),
        ("contains", "anything", "!!", False),
        ("choice", "The answer is (C).", "C", True),
        ("choice", "Answer: b", "B", True),
        ("choice", "First I thought the answer is A, but the answer is D", "D", True),
        ("choice", "C", "C", True),
        ("choice", "(C) Paris", "c", True),
        ("choice", "C. Paris\nbecause it is", "The answer is C", True),
        ("choice", "A good question! B is likely.", "A", False),
        ("choice", "The answer is about Berlin", "A", False),
        ("choice", "I don't know", "I", False),
    ],
)
def test_a_rule_takes_what_it_says(rule: str, answer: str, reference: str, matches: bool) -> None:
    assert RULES[rule](answer, reference) is matches


def test_any_reference_will_do() -> None:
    assert match("exact", "b", ("a", "b")) == 1.0
    assert match("exact", "c", ("a", "b")) == 0.0
    assert match("exact", "c", ()) == 0.0


def test_the_pieces_of_the_rules() -> None:
    assert normalise("An  apple, a day…") == "apple day"
    assert last_number("from 1 to 2,000,000") == 2e6
    assert last_number("none") is None
    assert choice("nothing here") is None


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Both fine.\nVerdict: A", "first"),
        ("verdict: **B**", "second"),
        ("Verdict: tie.", "tie"),
        ("Verdict: A at first sight.\nVerdict: B", "second"),
        ("A is better", None),
        ("Verdict: Always", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_last_one_given(reply: str, verdict: str | None) -> None:
    assert read_comparison(reply) == verdict


@pytest.mark.parametrize(
    ("shown_first", "shown_second", "score"),
    [
        ("first", "second", 1.0),
        ("second", "first", 0.0),
        ("first", "first", 0.5),
        ("second", "second", 0.5),
        ("tie", "tie", 0.5),
        ("first", "tie", 0.5),
        ("tie", "first", 0.5),
    ],
)
def test_only_what_is_said_in_both_orders_counts(
    shown_first: str, shown_second: str, score: float
) -> None:
    assert settle(shown_first, shown_second) == score  # type: ignore[arg-type]


def test_the_judge_sees_question_reference_and_both_answers_in_order() -> None:
    _, asked = comparison("2+2?", "four", "five", ("4",))
    text = asked["content"]
    places = [text.index(piece) for piece in ("2+2?", "\n4\n", "four", "five")]
    assert places == sorted(places)
    assert "<reference>" not in comparison("2+2?", "a", "b")[1]["content"]
