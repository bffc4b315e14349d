"""Embeddings: every shape of input, routed, never mixed between models."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from tests.contract.conftest import native_stage, openai_client
from tests.fakes.backend import Act, json_answer, says
from tests.faults.conftest import Stage


def vectors(count: int, *, is_base64: bool = False) -> Act:
    values = [1.0, -0.5, 0.25]
    packed: Any = base64.b64encode(struct.pack("<3f", *values)).decode() if is_base64 else values
    data = [{"object": "embedding", "index": i, "embedding": packed} for i in range(count)]
    usage = {"prompt_tokens": 10, "total_tokens": 10}
    return says(
        json_answer({"object": "list", "model": "served-name", "data": data, "usage": usage})
    )


async def post(stage: Stage, **fields: Any) -> Any:
    return await stage.client.post("/v1/embeddings", json={"model": "auto", **fields})


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("Hi", 1),
        (["Hi", "Ho"], 2),
        ([1, 2, 3], 1),
        ([[1, 2], [3], [4]], 3),
    ],
    ids=["text", "texts", "tokens", "token lists"],
)
@pytest.mark.parametrize("form", ["float", "base64"])
async def test_the_sdk_gets_a_vector_for_each_input(given: Any, count: int, form: Any) -> None:
    async with native_stage("embeddings") as stage:
        stage.first.will(vectors(count, is_base64=form == "base64"))
        async with openai_client(stage) as client:
            answer = await client.embeddings.create(model="first", input=given)
        assert [list(item.embedding) for item in answer.data] == [[1.0, -0.5, 0.25]] * count
        assert answer.model == "first"
        (asked,) = stage.first.requests
        assert asked.path == "/v1/embeddings"
        assert asked.body["input"] == given
        (row,) = stage.parts.ledger.recent
        assert (row.usage.prompt_tokens, row.usage.completion_tokens) == (10, 0)
        assert row.cost_nanos == 10_000


@pytest.mark.parametrize("given", [[], None, 7, {"a": 1}, ["a", 1], [[1], "a"], [None], [[1], 2]])
async def test_what_is_no_input_is_named(given: Any) -> None:
    async with native_stage("embeddings") as stage:
        answer = await post(stage, input=given)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "input"
        assert stage.first.requests == []


async def test_auto_chooses_a_model_and_warns_that_vectors_do_not_mix() -> None:
    async with native_stage("embeddings") as stage:
        stage.first.will(vectors(1))
        answer = await post(stage, input="Hi")
        assert answer.json()["model"] == "first"
        assert "cannot be compared" in answer.headers["x-routing-warnings"]


async def test_another_model_never_stands_in() -> None:
    async with native_stage("embeddings") as stage:
        stage.first.will(says(json_answer({"error": "down"}, 503)))
        answer = await post(stage, input="Hi")
        assert answer.status_code == 503
        assert stage.second.requests == []


async def test_too_few_vectors_are_no_answer() -> None:
    async with native_stage("embeddings") as stage:
        stage.first.will(vectors(1))
        answer = await post(stage, input=["a", "b"])
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "backend_protocol_error"


@pytest.mark.parametrize("model", ["auto", "first"])
async def test_a_model_that_makes_no_vectors_is_not_asked(stage: Stage, model: str) -> None:
    answer = await post(stage, model=model, input="Hi")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_endpoint"
    assert stage.first.requests == stage.second.requests == []


async def test_a_model_that_only_embeds_is_never_asked_to_chat() -> None:
    async with native_stage("embeddings") as stage:
        for path in ("chat/completions", "completions", "responses", "messages"):
            messages = [{"role": "user", "content": "Hi"}]
            body = {"model": "auto", "messages": messages, "prompt": "Hi", "input": "Hi"}
            answer = await stage.client.post(f"/v1/{path}", json={**body, "max_tokens": 3})
            assert answer.status_code == 400, path
            assert answer.json()["error"]["code"] == "unsupported_endpoint"
        models = (await stage.client.get("/v1/models")).json()["data"]
        assert models[-1]["endpoints"] == ["embeddings"]
