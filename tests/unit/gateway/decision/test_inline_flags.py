"""Flags that a user writes into a prompt."""

import json

import pytest

from gateway.decision.endpoints import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from gateway.decision.flags import FlagError
from gateway.decision.inline_flags import take_inline_flags
from gateway.decision.request import parse_request


def chat(*messages, **fields):
    return {"model": "auto", "messages": list(messages), **fields}


def user(content):
    return {"role": "user", "content": content}


def taken(body, endpoint=CHAT):
    """The fields of the request as a backend would get them, and the flags."""
    request, flags = take_inline_flags(parse_request(json.dumps(body).encode(), endpoint))
    return json.loads(
        json.dumps({k: json.loads(bytes(v)) for k, v in request.fields.items()})
    ), flags


@pytest.mark.parametrize(
    ("flag", "flags"),
    [
        ("smallest model", {"objective": "small"}),
        ("Smallest Model", {"objective": "small"}),
        ("cheapest", {"objective": "cheap"}),
        ("low  cost", {"objective": "cheap"}),
        ("fastest answer", {"objective": "fast"}),
        ("newest model", {"objective": "fresh"}),
        ("most secure model", {"objective": "secure"}),
        ("shortest answer", {"objective": "concise"}),
        ("most readable", {"objective": "readable"}),
        ("best model", {"objective": "best"}),
        ("balanced", {"objective": "balanced"}),
        ("max_cost_usd=0.01", {"max_cost_usd": 0.01}),
        ("Max Cost USD = 0.01", {"max_cost_usd": 0.01}),
        ("weights = cost=0.5,size=1", {"weights": {"cost": 0.5, "size": 1.0}}),
        ("models-deny=a,b", {"deny": ("a", "b")}),
    ],
)
def test_what_a_flag_says(flag, flags):
    fields, found = taken(chat(user(f"Hi [Flag: {flag}]")))
    assert found == flags
    assert fields["messages"] == [user("Hi")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[Flag: small] Hi", "Hi"),
        ("Say [flag: small] hi", "Say hi"),
        ("Say hi\n[FLAG:small]\nnow", "Say hi\n\nnow"),
        ("[ Flag : small ]", ""),
        ("a[Flag: fast]b [Flag: small]", "a b"),
    ],
)
def test_the_text_around_it_stays_a_text(text, left):
    fields, found = taken(chat(user(text)))
    assert fields["messages"][0]["content"] == left
    assert found == {"objective": "small"}, "the later one holds"


def test_only_the_last_thing_the_user_said_counts():
    messages = [user("[Flag: fast] one"), {"role": "assistant", "content": "[Flag: fast]"}]
    body = chat(*messages, user("two"), {"role": "tool", "content": "[Flag: fast]"})
    assert taken(body) == (body, {})
    fields, found = taken(chat(*messages, user("two [Flag: small]")))
    assert found == {"objective": "small"}
    assert fields["messages"] == [*messages, user("two")]


def test_parts_of_text_are_read_and_others_left():
    image = {"type": "image_url", "image_url": {"url": "data:[Flag: fast]"}}
    fields, found = taken(chat(user([{"type": "text", "text": "x [Flag: small]"}, image])))
    assert found == {"objective": "small"}
    assert fields["messages"][0]["content"] == [{"type": "text", "text": "x"}, image]


@pytest.mark.parametrize(
    ("endpoint", "body", "name", "left"),
    [
        (COMPLETIONS, {"prompt": "x [Flag: small]"}, "prompt", "x"),
        (RESPONSES, {"input": "x [Flag: small]"}, "input", "x"),
        (
            RESPONSES,
            {"input": [user([{"type": "input_text", "text": "x [Flag: small]"}])]},
            "input",
            [user([{"type": "input_text", "text": "x"}])],
        ),
        (
            MESSAGES,
            {"messages": [user("x [Flag: small]")], "max_tokens": 1},
            "messages",
            [user("x")],
        ),
    ],
)
def test_every_wire_shape(endpoint, body, name, left):
    fields, found = taken({"model": "auto", **body}, endpoint)
    assert found == {"objective": "small"}
    assert fields[name] == left


def test_what_routing_reads_has_no_flag_in_it():
    body = json.dumps(chat(user("x [Flag: small]"))).encode()
    request, _ = take_inline_flags(parse_request(body, CHAT))
    assert request.prompt.text == [user("x")]


def test_a_request_without_flags_is_the_same_object():
    request = parse_request(json.dumps(chat(user("[Flags] (flag: x)"))).encode(), CHAT)
    assert take_inline_flags(request)[0] is request


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("nicest model", "holds [Flag: nicest model], which is not known; try [Flag: smallest"),
        ("max_cost=1", "did you mean x-routing-max-cost-usd?"),
        ("max_cost_usd=much", "must be a number, not 'much'"),
    ],
)
def test_a_flag_that_is_not_understood_is_an_error(flag, message):
    with pytest.raises(FlagError) as raised:
        taken(chat(user(f"x [Flag: {flag}]")))
    assert raised.value.field == "messages"
    assert message in str(raised.value)
