"""Responses and Anthropic's Messages, answered by the embedded models, asked by their own SDKs."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from anthropic import Anthropic
from anthropic.types import MessageParam
from openai import OpenAI

from tests.demo_process import Demo

ASK = "Janet has 3 apples and buys 4 more. How many apples has she?"
MESSAGES: list[MessageParam] = [{"role": "user", "content": ASK}]


@pytest.fixture(scope="module")
def client(demo: Demo) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{demo.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def claude(demo: Demo) -> Iterator[Anthropic]:
    with Anthropic(base_url=demo.url, api_key="unused", max_retries=0) as made:
        yield made


def test_responses_are_routed_and_stream_the_same_text(client: OpenAI) -> None:
    answer = client.responses.create(model="auto", input=ASK, max_output_tokens=8, temperature=0)
    assert answer.model == "smollm2-135m-math"
    assert answer.output_text
    assert (answer.status, answer.usage and answer.usage.output_tokens) == ("incomplete", 8)
    events = list(
        client.responses.create(
            model="auto", input=ASK, max_output_tokens=8, temperature=0, stream=True
        )
    )
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == answer.output_text
    assert events[-1].type == "response.incomplete"


def test_messages_are_routed_and_stream_the_same_text(claude: Anthropic) -> None:
    answer = claude.messages.create(
        model="auto", max_tokens=8, messages=MESSAGES, extra_body={"temperature": 0}
    )
    assert answer.model == "smollm2-135m-math"
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 8)
    (block,) = answer.content
    assert block.type == "text"
    with claude.messages.stream(
        model="auto", max_tokens=8, messages=MESSAGES, extra_body={"temperature": 0}
    ) as stream:
        assert "".join(stream.text_stream) == block.text
        final = stream.get_final_message()
    assert final.usage.output_tokens == 8
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) > 10


def test_embeddings_of_models_that_make_none_are_a_typed_error(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="auto", input="Hi")
    assert raised.value.code == "unsupported_endpoint"
