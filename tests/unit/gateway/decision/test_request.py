"""A request's body: what routing needs is read, all else passes byte for byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision.endpoints import CHAT, COMPLETIONS, RESPONSES
from gateway.decision.features import featurise
from gateway.decision.request import ROUTING_FIELDS, ParsedRequest, parse_request
from gateway.errors import InvalidRequest
from gateway.upstream.backend import BackendHandle

MESSAGES = [{"role": "user", "content": "Hi"}]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class NoTransport:
    async def open(self, *_: object) -> Any:
        raise AssertionError

    async def close(self) -> None:
        raise AssertionError


def backend(**extra: bytes) -> BackendHandle:
    fields = {name: msgspec.Raw(value) for name, value in extra.items()}
    return BackendHandle("b", "served", fields, NoTransport())


def sent_on(request: ParsedRequest) -> bytes:
    return request.question_for(backend()).body


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": MESSAGES, **fields}).encode()


@given(JSON_VALUES)
def test_fields_we_do_not_know_pass_untouched(value: Any) -> None:
    sent = chat(some_new_field=value)
    received = sent_on(parse_request(sent, CHAT))
    raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
    assert bytes(raw.decode(received)["some_new_field"]) == bytes(
        raw.decode(sent)["some_new_field"]
    )


def test_the_backend_gets_its_own_name_of_the_model_and_nothing_meant_for_us() -> None:
    sent = chat(routing={"explain": "full"}, session_id="s", max_cost=1, seed=7)
    body = json.loads(parse_request(sent, CHAT).question_for(backend(lora=b"[1]")).body)
    assert body == {"model": "served", "messages": MESSAGES, "seed": 7, "lora": [1]}
    assert not set(ROUTING_FIELDS) & set(body)


def test_a_stream_always_asks_for_usage_and_remembers_who_wanted_it() -> None:
    silent = parse_request(chat(stream=True, stream_options={"x": 1}), CHAT)
    assert silent.wants_usage is False
    assert json.loads(sent_on(silent))["stream_options"] == {
        "x": 1,
        "include_usage": True,
    }
    asked = parse_request(chat(stream=True, stream_options={"include_usage": True}), CHAT)
    assert asked.wants_usage is True


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b'{"model": NaN}', None),
        (b'{"model": "\xff"}', "model"),
        (b'{"messages": []}', "model"),
        (chat(model=7), "model"),
        (chat(messages=None), "messages"),
        (chat(messages=[]), "messages"),
        (chat(messages="Hi"), "messages"),
        (chat(messages=["Hi"]), "messages"),
        (chat(stream="yes"), "stream"),
        (chat(stream_options=7), "stream_options"),
        (chat(max_tokens="many"), "max_tokens"),
        (chat(max_tokens=-1), "max_tokens"),
        (chat(max_completion_tokens=-1), "max_completion_tokens"),
        (chat(api_base="http://evil"), "api_base"),
        (chat(base_url="http://evil"), "base_url"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_request(body, CHAT)
    assert raised.value.param == param


def test_a_limit_of_no_tokens_is_the_backends_to_judge() -> None:
    assert parse_request(chat(max_tokens=0), CHAT).max_output_tokens == 0


def test_a_response_needs_neither_a_model_nor_an_input() -> None:
    request = parse_request(b'{"prompt": {"id": "stored"}, "tools": [{}]}', RESPONSES)
    assert request.model == "auto"
    prompt = request.prompt
    assert featurise(prompt.text, prompt.size_bytes, request.fields, None).ask == ""


def test_an_input_that_is_given_is_read() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_request(b'{"input": []}', RESPONSES)
    assert raised.value.param == "input"


@pytest.mark.parametrize("field", ["messages", "routing", "metadata"])
def test_depth_is_no_crash(field: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    body = chat(**{field: "HERE"}).replace(b'"HERE"', deep)
    with pytest.raises(InvalidRequest):
        parse_request(body, CHAT)


def test_a_key_given_twice_reaches_the_backend_once_as_we_read_it() -> None:
    body = b'{"model": "auto", "stream": true, "stream": false, "prompt": "x"}'
    request = parse_request(body, COMPLETIONS)
    assert request.is_stream is False
    assert sent_on(request).count(b'"stream"') == 1
