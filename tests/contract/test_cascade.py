"""A cheaper model is asked first: its answer is kept where it is sure, and else nobody sees it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from math import log
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.ledger.decision_records import DecisionRecord, LogReading, replay_decision
from gateway.ledger.replay import replay_log
from policies.types import Policy
from tests.fakes.backend import (
    DONE,
    USAGE,
    Act,
    completion,
    event,
    json_answer,
    says,
    streams,
    then_hangs,
)
from tests.faults.conftest import ASK, Stage, eventually, stage_with

CHEAP = {"price_usd_per_mtok": {"input": 0.1, "output": 0.2}}
#: What ten tokens read and four written cost, in USD.
FIRST_USD, SECOND_USD = 18e-6, 1.8e-6
CASCADE = {"cascade": {"accept": 0.8}}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Model ``second`` is ten times cheaper than ``first`` and predicted to be worse."""
    async with stage_with(second=CHEAP, first_token_s=0.5, answer_s=0.5, idle_s=0.3) as made:
        yield made
        await made.census()


def tokens(probability: float, count: int = 4) -> dict[str, Any]:
    return {"content": [{"token": "x", "logprob": log(probability)} for _ in range(count)]}


def sure(probability: float | None, text: str = "Hello") -> Act:
    """A whole chat answer whose tokens all had this probability."""
    document = json.loads(completion(text).partition(b"\r\n\r\n")[2])
    document["choices"][0]["message"]["role"] = "assistant"
    document["choices"][0]["logprobs"] = None if probability is None else tokens(probability)
    return says(json_answer(document))


def sure_stream(probability: float, *texts: str) -> Act:
    chunks = []
    for text in texts:
        chunk = json.loads(event(text).removeprefix(b"data: "))
        chunk["choices"][0]["logprobs"] = tokens(probability, 1)
        chunks.append(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    return streams(*chunks, event("", finish="stop"), event(usage=USAGE), DONE)


def content(answer: httpx2.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


async def test_an_answer_that_is_sure_enough_is_kept(stage: Stage) -> None:
    stage.second.will(sure(0.9, "cheap"))
    answer = await stage.ask(routing=CASCADE)
    assert content(answer) == "cheap"
    assert answer.json()["model"] == "second"
    assert answer.json()["usage"]["cost"] == pytest.approx(SECOND_USD)
    assert "logprobs" not in answer.json()["choices"][0]
    assert answer.headers["x-routing-model"] == "second"
    assert answer.headers["x-routing-attempts"] == "1"
    assert answer.headers["x-routing-reason"].startswith("cascade: second kept at 0.90; highest")
    assert "x-routing-fallback-from" not in answer.headers
    (asked,) = stage.second.requests
    assert asked.body["logprobs"] is True
    assert stage.first.requests == []
    (row,) = stage.parts.ledger.recent
    assert (row.chosen_model, row.model, row.outcome, row.spent) == ("second", "second", "ok", ())


async def test_an_unsure_answer_is_paid_for_and_the_chosen_model_asked(stage: Stage) -> None:
    stage.second.will(sure(0.5, "cheap"))
    stage.first.will(says(completion("good")))
    answer = await stage.ask(routing=CASCADE)
    assert content(answer) == "good"
    assert answer.headers["x-routing-model"] == "first"
    assert answer.headers["x-routing-attempts"] == "2"
    assert answer.headers["x-routing-reason"].startswith("cascade: second 0.50 of 0.8; ")
    assert answer.json()["usage"]["cost"] == pytest.approx(FIRST_USD + SECOND_USD)
    assert "logprobs" not in stage.first.requests[0].body
    (row,) = stage.parts.ledger.recent
    assert (row.chosen_model, row.model) == ("first", "first")
    assert [(s.model, s.usage.total_tokens, s.cost_nanos) for s in row.spent] == [
        ("second", 14, 1800)
    ]
    assert row.cost_nanos == 19_800
    assert row.total_tokens == 28
    exposed = stage.parts.metrics.exposition().decode()
    assert 'thalamus_cascade_first_tries_total{model="second",result="escalated"} 1.0' in exposed
    costs = dict(re.findall(r'cost_usd_total{model="(\w+)"} (\S+)', exposed))
    assert float(costs["second"]) == pytest.approx(SECOND_USD)
    assert float(costs["first"]) == pytest.approx(FIRST_USD)


async def test_the_threshold_is_met_by_equal(stage: Stage) -> None:
    stage.second.will(sure(1.0))
    answer = await stage.ask(routing={"cascade": {"accept": 1}})
    assert answer.headers["x-routing-model"] == "second"


@pytest.mark.parametrize("probability", [None, 0.0001])
async def test_an_answer_that_tells_nothing_or_no_hope_is_not_kept(
    stage: Stage, probability: float | None
) -> None:
    stage.second.will(sure(probability))
    stage.first.will(says(completion()))
    answer = await stage.ask(routing={"cascade": True})
    assert answer.headers["x-routing-model"] == "first"


async def test_log_probabilities_stay_in_the_answer_of_who_asks_for_them(stage: Stage) -> None:
    stage.second.will(sure(0.9))
    answer = await stage.ask(routing=CASCADE, logprobs=True)
    assert len(answer.json()["choices"][0]["logprobs"]["content"]) == 4


async def test_a_stream_begins_once_its_answer_is_kept(stage: Stage) -> None:
    stage.second.will(sure_stream(0.9, "a", "b"))
    events = await stage.stream(routing=CASCADE)
    assert events.pop() == "[DONE]"
    chunks = [json.loads(data) for data in events]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["a", "b", ""]
    assert all(chunk["model"] == "second" for chunk in chunks)
    assert all("logprobs" not in chunk["choices"][0] for chunk in chunks)
    (row,) = stage.parts.ledger.recent
    assert (row.model, row.usage.completion_tokens) == ("second", 2)


async def test_of_a_stream_that_is_unsure_the_client_sees_nothing(stage: Stage) -> None:
    stage.second.will(sure_stream(0.5, "bad"))
    stage.first.will(streams(event("good"), event("", finish="stop"), event(usage=USAGE), DONE))
    events = await stage.stream(routing=CASCADE, stream_options={"include_usage": True})
    assert "bad" not in "".join(events)
    usage = json.loads(events[-2])["usage"]
    assert usage["cost"] == pytest.approx(14e-6 + 1.4e-6)
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize(
    "fault",
    [
        says(json_answer({"error": {"message": "busy"}}, 503)),
        streams(event("torn")),
        streams(b"data: {}{\n\n"),
    ],
)
async def test_a_first_try_that_fails_is_no_error_of_the_request(stage: Stage, fault: Act) -> None:
    stage.second.will(fault)
    stage.first.will(streams(event("good", finish="stop"), DONE))
    events = await stage.stream(routing=CASCADE)
    assert "good" in events[0]
    assert "torn" not in "".join(events)
    assert events[-1] == "[DONE]"
    exposed = stage.parts.metrics.exposition().decode()
    assert 'thalamus_cascade_first_tries_total{model="second",result="failed"} 1.0' in exposed


def verdict(yes: float, no: float) -> Act:
    """The verifier's word with what it might have said in its place."""
    top = [{"token": " Yes", "logprob": log(yes)}, {"token": "no", "logprob": log(no)}]
    document = json.loads(completion("Yes").partition(b"\r\n\r\n")[2])
    document["choices"][0]["logprobs"] = {"content": [{"token": " Yes", "top_logprobs": top}]}
    return says(json_answer(document))


@pytest.mark.parametrize(("yes", "served"), [(0.6, "second"), (0.2, "first")])
async def test_a_verifier_decides_in_the_models_place(
    stage: Stage, yes: float, served: str
) -> None:
    stage.second.will(sure(None, "cheap"))
    stage.first.will(verdict(yes, 0.1), says(completion("good")))
    wish = {"accept": 0.8, "verifier": "first"}
    answer = await stage.ask(routing={"cascade": wish})
    assert answer.headers["x-routing-model"] == served
    asked = stage.first.requests[0].body
    assert "<question>\nHi\n</question>" in asked["messages"][1]["content"]
    assert "<answer>\ncheap\n</answer>" in asked["messages"][1]["content"]
    assert asked["max_tokens"] == 1
    assert asked["model"] == "served-name"
    assert "logprobs" not in stage.second.requests[0].body
    parts = [SECOND_USD, FIRST_USD] + [FIRST_USD] * (served == "first")
    assert answer.json()["usage"]["cost"] == pytest.approx(sum(parts))


@pytest.mark.parametrize("reply", [completion("Yes."), completion("Maybe"), b"HTTP/1.1 200 X\r\n"])
async def test_a_verifier_without_alternatives_is_taken_at_its_word(
    stage: Stage, reply: bytes
) -> None:
    stage.second.will(sure(None, "cheap"))
    stage.first.will(says(reply), says(completion("good")))
    answer = await stage.ask(routing={"cascade": {"verifier": "first"}})
    is_yes = b"Yes" in reply
    assert answer.headers["x-routing-model"] == ("second" if is_yes else "first")


async def test_a_verifier_must_be_a_model(stage: Stage) -> None:
    answer = await stage.ask(routing={"cascade": {"verifier": "nobody"}})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "routing.cascade.verifier"


async def test_who_leaves_during_the_first_try_is_accounted(stage: Stage) -> None:
    stage.second.will(then_hangs())
    with pytest.raises(httpx2.TimeoutException):
        await stage.client.post(
            "/v1/chat/completions", json={**ASK, "routing": CASCADE}, timeout=0.2
        )
    await eventually(lambda: len(stage.parts.ledger.recent) == 1)
    (row,) = stage.parts.ledger.recent
    assert (row.outcome, row.model) == ("cancelled", "second")
    await asyncio.wait_for(stage.second.requests[0].left.wait(), 1)
    assert stage.first.requests == []


async def test_a_named_model_is_asked_at_once(stage: Stage) -> None:
    stage.first.will(says(completion()))
    answer = await stage.ask(model="first", routing=CASCADE)
    assert answer.headers["x-routing-model"] == "first"
    assert "no cascade: the request names its model" in answer.headers["x-routing-warnings"]


async def test_both_answers_together_honour_the_limit_on_cost(stage: Stage) -> None:
    dry = await stage.client.post("/v1/route", json={**ASK, "routing": CASCADE})
    costs = {c["model"]: c["predicted_cost_usd"] for c in dry.json()["candidates"]}
    assert dry.json()["first_try"] == "second"
    for limit, first_try in ((sum(costs.values()), "second"), (costs["first"], None)):
        wish = {**CASCADE, "max_cost_usd": limit}
        dry = await stage.client.post("/v1/route", json={**ASK, "routing": wish})
        assert (dry.json()["chosen"], dry.json()["first_try"]) == ("first", first_try)
    assert "two answers together may break max_cost_usd" in str(dry.json()["warnings"])


async def test_completions_ask_in_their_own_words(stage: Stage) -> None:
    document = {"id": "1", "model": "m", "usage": USAGE, "choices": [
        {"text": "cheap", "logprobs": {"token_logprobs": [None, log(0.9)], "tokens": ["a", "b"]}}
    ]}  # fmt: skip
    stage.second.will(says(json_answer(document)))
    body = {"model": "auto", "prompt": "Hi", "routing": CASCADE}
    answer = await stage.client.post("/v1/completions", json=body)
    assert answer.json()["choices"] == [{"text": "cheap"}]
    assert stage.second.requests[0].body["logprobs"] == 1


async def test_what_is_put_into_chats_words_cascades_too() -> None:
    async with stage_with(second=CHEAP, endpoints=("chat",)) as stage:
        stage.second.will(sure(0.9, "cheap"), sure_stream(0.9, "ch", "eap"))
        body = {"model": "auto", "input": "Hi", "routing": CASCADE}
        answer = await stage.client.post("/v1/responses", json=body)
        assert answer.json()["output"][0]["content"][0]["text"] == "cheap"
        headers = {"anthropic-version": "2023-06-01"}
        body = {"model": "auto", "max_tokens": 9, "messages": ASK["messages"], "stream": True}
        answer = await stage.client.post(
            "/v1/messages", json={**body, "routing": CASCADE}, headers=headers
        )
        assert answer.text.count('"text_delta"') == 2
        assert answer.text.rstrip().endswith('data: {"type":"message_stop"}')
        await stage.census()


async def test_the_log_replays_cascades_and_learns_nothing_of_the_chosen_model(
    tmp_path: Path,
) -> None:
    path = tmp_path / "decisions.jsonl"
    async with stage_with(second=CHEAP, extra={"decision_log": {"path": str(path)}}) as stage:
        stage.second.will(sure(0.5))
        stage.first.will(says(completion()))
        await stage.ask(routing=CASCADE)
    (record,) = LogReading(path)
    assert isinstance(record, DecisionRecord)
    assert (record.first_try, record.chosen, record.served) == ("second", "first", "first")
    assert [s.model for s in record.spent] == ["second"]
    assert replay_decision(record).first_try == "second"
    replay = replay_log(path, Policy())
    assert (replay.cascades, replay.changed, replay.agreement) == (1, (), None)
