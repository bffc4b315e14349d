"""The OpenAI Python SDK works unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.demo_process import Demo

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 3 + 4?"}]


@pytest.fixture(scope="module")
def client(demo: Demo) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{demo.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=ASK, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.model == "smollm2-135m-math"
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8
    assert answer.usage.model_extra == {"cost": 0.0}


def test_stream_gives_the_same_text_and_usage_only_when_asked(client: OpenAI) -> None:
    plain = client.chat.completions.create(
        model="smollm2-135m-math", messages=ASK, max_tokens=16, temperature=0
    )
    silent = list(
        client.chat.completions.create(
            model="smollm2-135m-math", messages=ASK, max_tokens=16, temperature=0, stream=True
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in silent)
    assert text == plain.choices[0].message.content
    assert all(chunk.usage is None and chunk.choices for chunk in silent)
    asked = list(
        client.chat.completions.create(
            model="auto",
            messages=ASK,
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert asked[-1].usage is not None
    assert asked[-1].usage.completion_tokens == 4
    assert {chunk.model for chunk in asked} == {"smollm2-135m-math"}


def test_tools_pass_through(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="auto",
        messages=ASK,
        max_tokens=8,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "add",
                    "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
                },
            }
        ],
    )
    assert answer.choices[0].finish_reason in {"stop", "length", "tool_calls"}


def test_routing_flags_ride_in_extra_body(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=ASK,
        max_tokens=2,
        extra_body={"routing": {"models": {"deny": ["smollm2-135m-math"]}}},
    )
    assert raw.headers["x-routing-model"] != "smollm2-135m-math"


def test_models(client: OpenAI) -> None:
    assert "auto" in [model.id for model in client.models.list()]
    assert client.models.retrieve("smollm2-135m").id == "smollm2-135m"


def test_an_unknown_model_is_a_typed_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-17", messages=ASK)
    error = raised.value
    assert (error.code, error.type, error.param) == (
        "model_not_found",
        "invalid_request_error",
        "model",
    )


def test_a_backends_own_complaint_is_a_typed_error(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(
            model="smollm2-135m",
            messages=ASK,
            extra_body={"grammar": "root ::= ("},
        )
    assert raised.value.type == "invalid_request_error"
    assert raised.value.message


def test_text_completions(client: OpenAI) -> None:
    answer = client.completions.create(model="smollm2-135m-math", prompt="1 + 1 =", max_tokens=3)
    assert answer.choices[0].text
