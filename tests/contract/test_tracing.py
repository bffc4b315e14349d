"""Traces of a real gateway as a collector gets them, and what backends are told of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.parts import build_parts
from tests.fakes.backend import (
    STREAM_HEAD,
    WHOLE,
    chunked,
    completion,
    event,
    json_answer,
    says,
    streams,
    then_hangs,
    then_resets,
)
from tests.fakes.collector import FakeCollector, SeenSpan, fake_collector
from tests.faults.conftest import ASK, Stage, eventually, stage_with

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BROKE_OFF = "backend_protocol_error"
STEPS = ["authenticate", "parse", "featurise", "score", "choose", "reserve"]


@asynccontextmanager
async def traced(
    tracing: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[tuple[Stage, FakeCollector]]:
    """A gateway that traces; when the block ends, all its traces have arrived."""
    with fake_collector() as collector:
        section = {"endpoint": collector.url, **(tracing or {})}
        extra = {"tracing": section, **more.pop("extra", {})}
        async with stage_with(extra=extra, first_token_s=0.5, idle_s=0.3, **more) as stage:
            yield stage, collector
            await stage.census()


async def arrived(collector: FakeCollector, count: int = 1) -> list[SeenSpan]:
    await eventually(lambda: len(collector.roots()) >= count, 5)
    assert len(collector.roots()) == count
    return collector.roots()


async def test_a_stream_is_one_span_with_a_child_for_each_step() -> None:
    async with traced() as (stage, collector):
        stage.first.will(streams(*WHOLE))
        await stage.stream()
        (root,) = await arrived(collector)
        row = stage.parts.ledger.recent[-1]
    assert root.name == "chat auto"
    assert root.resource["service.name"] == "thalamus"
    told = root.told
    assert told["gen_ai.operation.name"] == "chat"
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("auto", "first")
    assert told["gen_ai.request.stream"] is True
    assert told["gen_ai.usage.input_tokens"] == 10
    assert told["gen_ai.usage.output_tokens"] == 2
    assert told["http.response.status_code"] == 200
    assert (told["server.address"], told["server.port"]) == ("127.0.0.1", stage.port)
    assert told["thalamus.decision_id"] == row.decision_id
    assert told["thalamus.cost_usd"] == pytest.approx(14e-6)
    assert told["gen_ai.response.time_to_first_chunk"] == pytest.approx((row.ttft_ms or 0) / 1e3)
    assert "error.type" not in told
    assert row.trace_id == root.trace_id

    children = collector.beneath(root)
    assert [c.name for c in children] == [*STEPS, "chat served-name", "stream", "account"]
    ends = [root.raw.start_time_unix_nano]
    for child in children:
        assert child.raw.start_time_unix_nano >= ends[-1] - 1_000 or child.name == "stream"
        assert child.raw.end_time_unix_nano <= root.raw.end_time_unix_nano + 1_000
        ends.append(child.raw.end_time_unix_nano)
    attempt, stream = children[6], children[7]
    assert attempt.told["gen_ai.request.model"] == "served-name"
    assert attempt.told["gen_ai.usage.output_tokens"] == 2
    assert attempt.told["gen_ai.provider.name"] == "openai"
    assert attempt.told["server.port"] == stage.first.port
    (first_token,) = stream.raw.events
    assert first_token.name == "first token"
    assert stream.raw.start_time_unix_nano <= first_token.time_unix_nano
    assert first_token.time_unix_nano <= stream.raw.end_time_unix_nano


async def test_the_backend_hangs_its_spans_beneath_the_attempt() -> None:
    async with traced() as (stage, collector):
        stage.first.will(says(completion()))
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-03", "tracestate": "congo=t61"}
        await stage.client.post("/v1/chat/completions", json=ASK, headers=headers)
        (root,) = await arrived(collector)
        asked = stage.first.requests[-1].headers
    assert (root.trace_id, root.parent_id, root.raw.trace_state) == (TRACE, SPAN, "congo=t61")
    (attempt,) = [s for s in collector.beneath(root) if s.name == "chat served-name"]
    assert asked["traceparent"] == f"00-{TRACE}-{attempt.span_id}-03"
    assert asked["tracestate"] == "congo=t61"


@pytest.mark.parametrize("flag", ["00", "01"])
async def test_a_caller_that_has_decided_is_followed(flag: str) -> None:
    ratio = 1.0 - int(flag)  # the opposite of what the caller says
    async with traced({"sample_ratio": ratio}) as (stage, collector):
        stage.first.will(says(completion()))
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-{flag}"}
        await stage.client.post("/v1/chat/completions", json=ASK, headers=headers)
        assert stage.first.requests[-1].headers["traceparent"].startswith(f"00-{TRACE}-")
        assert stage.first.requests[-1].headers["traceparent"].endswith(f"-{flag}")
        assert stage.parts.ledger.recent[-1].trace_id == TRACE
    assert len(collector.roots()) == int(flag)


async def test_a_caller_need_not_be_followed() -> None:
    async with traced({"sample_ratio": 0, "follow_callers": False}) as (stage, collector):
        stage.first.will(says(completion()))
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        await stage.client.post("/v1/chat/completions", json=ASK, headers=headers)
        assert stage.first.requests[-1].headers["traceparent"].endswith("-00")
    assert collector.spans == []


async def test_what_is_not_sampled_is_not_sampled_at_the_backend_either() -> None:
    async with traced({"sample_ratio": 0}) as (stage, collector):
        stage.first.will(says(completion()))
        await stage.ask()
        assert stage.first.requests[-1].headers["traceparent"].endswith("-00")
    assert collector.spans == []


async def test_every_attempt_is_a_span_with_its_error() -> None:
    async with traced() as (stage, collector):
        stage.first.will(says(json_answer({"error": {"message": "secret-words"}}, 503)))
        stage.second.will(says(completion()))
        assert (await stage.ask()).status_code == 200
        (root,) = await arrived(collector)
    failed, won = [s for s in collector.beneath(root) if s.raw.kind == 3]
    assert (failed.told["error.type"], failed.is_failed) == ("503", True)
    assert failed.told["http.response.status_code"] == 503
    assert won.told["thalamus.model"] == "second"
    assert "error.type" not in won.told
    assert not root.is_failed
    assert root.told["thalamus.attempts"] == 2
    assert root.told["thalamus.model.chosen"] == "first"
    assert "secret-words" not in str(collector.spans)


async def test_a_broken_stream_is_a_failed_span() -> None:
    async with traced() as (stage, collector):
        stage.first.will(then_resets(STREAM_HEAD + chunked(event("a"))))
        assert (await stage.ask(stream=True)).status_code == 200
        (root,) = await arrived(collector)
    assert (root.told["error.type"], root.is_failed) == (BROKE_OFF, True)
    assert root.told["http.response.status_code"] == 200
    failed = {s.name: s.told["error.type"] for s in collector.beneath(root) if s.is_failed}
    assert failed == {"chat served-name": BROKE_OFF, "stream": BROKE_OFF}


async def test_a_client_that_leaves_ends_its_trace() -> None:
    async with traced() as (stage, collector):
        stage.first.will(then_hangs(STREAM_HEAD + chunked(event("a"))))
        async with stage.client.stream(
            "POST", "/v1/chat/completions", json={**ASK, "stream": True}
        ):
            pass
        (root,) = await arrived(collector)
    assert (root.told["error.type"], root.is_failed) == ("cancelled", False)
    assert root.told["thalamus.outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "status", "error", "steps"),
    [
        ({"model": "auto"}, 400, "missing_field", ["authenticate", "parse"]),
        ({**ASK, "model": "private-words"}, 404, "model_not_found", ["authenticate", "parse"]),
        ({**ASK, "routing": {"max_cost_usd": 0}}, 422, "routing_infeasible", STEPS[:5]),
    ],
)
async def test_a_refusal_shows_the_step_that_refused(
    body: dict[str, Any], status: int, error: str, steps: list[str]
) -> None:
    async with traced() as (stage, collector):
        assert (await stage.client.post("/v1/chat/completions", json=body)).status_code == status
        (root,) = await arrived(collector)
    assert (root.name, root.told["error.type"], root.is_failed) == ("chat", error, False)
    assert root.told["http.response.status_code"] == status
    children = collector.beneath(root)
    assert [c.name for c in children] == steps
    assert children[-1].told["error.type"] == error
    assert "private-words" not in str(collector.spans)


async def test_no_prompt_and_no_answer_is_part_of_a_span() -> None:
    async with traced() as (stage, collector):
        stage.first.will(says(completion("plainly-an-answer")))
        await stage.ask(
            messages=[{"role": "user", "content": "plainly-a-prompt"}], user="plainly-me"
        )
        await arrived(collector)
    assert "plainly" not in str([span.raw for span in collector.spans])


async def test_a_first_try_and_its_successor_are_two_attempts() -> None:
    unsure = completion("No idea")  # no log-probabilities: unsure by definition
    async with traced(extra={}, second={"price_usd_per_mtok": {"input": 0.1, "output": 0.1}}) as (
        stage,
        collector,
    ):
        stage.first.will(says(completion()))
        stage.second.will(says(unsure))
        answer = await stage.ask(routing={"cascade": True})
        assert answer.headers["x-routing-model"] == "first"
        (root,) = await arrived(collector)
    tried, won = [s for s in collector.beneath(root) if s.raw.kind == 3]
    assert (tried.told["thalamus.model"], won.told["thalamus.model"]) == ("second", "first")
    assert tried.raw.end_time_unix_nano <= won.raw.start_time_unix_nano
    assert "gen_ai.usage.output_tokens" not in tried.told
    assert won.told["gen_ai.usage.output_tokens"] == 4


async def test_a_stream_that_its_backend_gives_up_is_a_failed_span() -> None:
    async with traced() as (stage, collector):
        gives_up = b'data: {"error": {"message": "private-words", "code": "private-code"}}\n\n'
        stage.first.will(streams(event("a"), gives_up))
        assert '"error"' in (await stage.ask(stream=True)).text
        (root,) = await arrived(collector)
    assert (root.told["error.type"], root.told["thalamus.outcome"]) == ("backend_error", "error")
    assert "private" not in str(collector.spans)


async def test_headers_go_to_the_collector_and_what_it_took_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLLECTOR_KEY", "Basic c2VjcmV0")
    async with traced({"headers": {"authorization": "env:COLLECTOR_KEY"}}) as (stage, collector):
        stage.first.will(says(completion()))
        await stage.ask()
        await arrived(collector)
        page = (await stage.client.get("/metrics")).text
    assert collector.paths == ["/v1/traces"]
    assert collector.headers[0]["authorization"] == "Basic c2VjcmV0"
    assert 'thalamus_traces_total{result="sent"} 1.0' in page
    assert 'thalamus_traces_total{result="lost"} 0.0' in page


async def test_a_new_configuration_goes_on_with_the_same_collector() -> None:
    async with traced() as (stage, collector):
        parts, config = stage.parts, stage.parts.config
        heir = build_parts(config, before=parts)
        assert heir.trace_exporter is parts.trace_exporter
        assert config.tracing is not None
        other = config.tracing.model_copy(update={"sample_ratio": 0.5})
        moved = build_parts(config.model_copy(update={"tracing": other}), before=parts)
        assert moved.trace_exporter is not parts.trace_exporter
        assert build_parts(config.model_copy(update={"tracing": None}), before=parts).tracer is None
        stage.first.will(says(completion()))
        await stage.ask()
        await arrived(collector)


async def test_without_the_section_a_callers_context_goes_through_as_it_is() -> None:
    async with stage_with() as stage:
        stage.first.will(says(completion()))
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1"}
        await stage.client.post("/v1/chat/completions", json=ASK, headers=headers)
        asked = stage.first.requests[-1].headers
        assert (asked["traceparent"], asked["tracestate"]) == (headers["traceparent"], "a=1")
        await stage.ask()
        assert "traceparent" not in stage.first.requests[-1].headers
        assert stage.parts.ledger.recent[-1].trace_id is None
        await stage.census()


def test_without_the_section_nothing_of_it_is_imported() -> None:
    program = (
        "import sys; from gateway.config import parse_config; from gateway.app import create_app;"
        "create_app(parse_config({'router': {'artifact': 'none'}, 'models':"
        " {'m': {'backends': [{'url': 'http://127.0.0.1:1/v1'}]}}}, 'here'));"
        "print(sorted(m for m in sys.modules if 'otlp' in m or 'tracing' in m or 'spans' in m))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
