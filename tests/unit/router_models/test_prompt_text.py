import json

import pytest

from router_models.prompt_text import HEAD_CHARS, TAIL_CHARS, ask_of, ask_of_cell, clip


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


TOOL_RESULT = user([{"type": "tool_result", "content": "42 rows"}])


@pytest.mark.parametrize(
    ("prompt", "ask"),
    [
        ("plain", "plain"),
        ([user("first"), {"role": "assistant", "content": "ok"}, user("second")], "second"),
        ([user("ask"), {"role": "assistant", "content": "calling"}, TOOL_RESULT], "ask"),
        ([user("ask"), {"role": "tool", "content": "42 rows"}], "ask"),
        ([user("ask"), user("  \n")], "ask"),
        ([user([{"type": "text", "text": "look"}, {"type": "image_url"}])], "look"),
        ([user([{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}])], "a\nb"),
        ([user(["bare", "strings"])], "bare\nstrings"),
        ([{"role": "system", "content": "be kind"}, user(None)], "be kind"),
        ([{"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}], "a"),
        ([user([{"type": "text", "text": None}]), user(7)], ""),
        (["not a message"], ""),
        ([], ""),
    ],
)
def test_the_ask_is_the_last_human_text(prompt, ask):
    assert ask_of(prompt) == ask


def test_a_cell_with_chat_messages_is_decoded():
    assert ask_of_cell(json.dumps([user("hello"), TOOL_RESULT])) == "hello"


@pytest.mark.parametrize(
    "cell", ["[1, 2]", "[]", '[{"a": 1}]', "[not json]", "plain", "[" * 50_000 + "]" * 50_000]
)
def test_a_cell_that_only_looks_like_chat_stays_text(cell):
    assert ask_of_cell(cell) == cell


def test_a_long_text_keeps_its_head_and_tail():
    text = "h" * HEAD_CHARS + "m" * 100_000 + "t" * TAIL_CHARS
    clipped = clip(text)
    assert clipped == "h" * HEAD_CHARS + "\n" + "t" * TAIL_CHARS


def test_a_short_text_is_not_clipped():
    text = "x" * (HEAD_CHARS + TAIL_CHARS)
    assert clip(text) is text
