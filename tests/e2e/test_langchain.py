"""LangChain's ChatOpenAI works unchanged, headers included."""

from __future__ import annotations

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.demo_process import Demo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def chat(demo: Demo) -> ChatOpenAI:
    return ChatOpenAI(
        model="auto",
        base_url=f"{demo.url}/v1",
        api_key=SecretStr("unused"),
        max_tokens=8,  # type: ignore[call-arg]
        include_response_headers=True,
    )


def test_invoke(chat: ChatOpenAI) -> None:
    answer = chat.invoke("Janet has 3 apples and buys 4 more. How many apples has she?")
    assert answer.content
    assert answer.response_metadata["headers"]["x-routing-model"] == "smollm2-135m-math"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_stream(chat: ChatOpenAI) -> None:
    pieces = list(chat.stream("def fibonacci(n):"))
    assert "".join(str(piece.content) for piece in pieces)


async def test_ainvoke(chat: ChatOpenAI) -> None:
    assert (await chat.ainvoke("Hello")).content
