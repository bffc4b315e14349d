"""The load that servers tell: who is asked, how long it is said to take, and what is shown of it."""

from __future__ import annotations

import pytest

from gateway.clock import SystemClock
from gateway.config import parse_config
from gateway.decision.catalog import Catalog
from gateway.upstream import probe, watch
from tests.fakes.backend import completion, says, scripted_backend
from tests.faults.conftest import ASK, Stage, eventually, stage_with


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.02)
    monkeypatch.setattr(watch, "SELDOM_S", 0.05)


def load(running: float, waiting: float) -> str:
    return (
        f'vllm:num_requests_running{{engine="0",model_name="m"}} {running}\n'
        f'vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}\n'
    )


def adapters(*names: str) -> str:
    listed = ",".join(names)
    return f'vllm:lora_requests_info{{max_lora="2",running_lora_adapters="{listed}"}} 1\n'


async def told(stage: Stage, replica: int = 0, model: str = "first") -> None:
    """Wait until the gateway has read what a backend says now."""
    health = stage.parts.catalog.models[model].backends[replica].health
    before_s = health.signals_at_s
    await eventually(lambda: health.signals is not None and health.signals_at_s > before_s)


async def test_the_replica_that_is_less_busy_by_its_own_word_is_asked() -> None:
    async with scripted_backend() as twin, stage_with(twin=twin.url) as stage:
        stage.first.metrics, twin.metrics = load(8, 4), load(1, 0)
        for backend in (stage.first, twin):
            backend.will(says(completion()))
        await told(stage)
        await told(stage, replica=1)
        for _ in range(3):
            assert (await stage.ask(model="first")).status_code == 200
        assert (len(stage.first.requests), len(twin.requests)) == (0, 3)
        stage.first.metrics, twin.metrics = load(0, 0), load(1, 0)
        await told(stage)
        await told(stage, replica=1)
        await stage.ask(model="first")
        assert (len(stage.first.requests), len(twin.requests)) == (1, 3)
        await stage.census()


async def test_where_the_adapter_is_at_work_it_is_asked_for_a_little_more_load() -> None:
    async with scripted_backend() as twin, stage_with(twin=twin.url) as stage:
        twin.metrics = load(3, 0) + adapters("first", "other")
        stage.first.metrics = load(0, 0) + adapters("other")
        twin.will(says(completion()))
        await told(stage)
        await told(stage, replica=1)
        await stage.ask(model="first")
        assert (len(stage.first.requests), len(twin.requests)) == (0, 1)


async def test_who_waits_there_makes_the_predicted_time_longer() -> None:
    async with stage_with() as stage:
        health = stage.parts.catalog.models["first"].backends[0].health
        health.ttft_ms.value, health.token_ms.value = 100.0, 10.0

        async def predicted() -> tuple[float, float]:
            dry = await stage.client.post("/v1/route", json={**ASK, "max_tokens": 10})
            first = next(c for c in dry.json()["candidates"] if c["model"] == "first")
            return first["predicted_ttft_ms"], first["predicted_latency_ms"]

        assert await predicted() == (100.0, 200.0)
        stage.first.metrics = load(4, 8)
        await told(stage)
        # Four are done in the time of one answer, 200 ms, so eight before us take 400 ms.
        assert await predicted() == (500.0, 600.0)


async def test_what_a_server_says_is_shown_and_what_it_leaves_out() -> None:
    async with stage_with() as stage:
        name = f'{{backend="127.0.0.1:{stage.first.port}",model="first"'
        page = (await stage.client.get("/metrics")).text
        assert f"thalamus_queue_depth{name}" not in page, "silence is not zero"
        stage.first.metrics = load(3, 2) + (
            'thalamus_moe_calls_total{layer="0"} 10\nthalamus_moe_distinct_experts_total 25\n'
        )
        await told(stage)
        page = (await stage.client.get("/metrics")).text
        assert f"thalamus_queue_depth{name}}} 2.0" in page
        assert f'thalamus_backend_load{name},signal="running"}} 3.0' in page
        assert f'thalamus_backend_load{name},signal="kv_usage"' not in page
        assert f'thalamus_backend_signal_missing{name},signal="kv_usage"}} 1.0' in page
        assert f'thalamus_backend_signal_missing{name},signal="waiting"}} 0.0' in page
        assert f'thalamus_backend_experts{{backend="127.0.0.1:{stage.first.port}",kind="' in page
        assert 'kind="distinct_per_call",model="first"} 2.5' in page
        assert f"thalamus_backend_signal_age_seconds{name}}} 0.0" in page


async def test_a_server_is_read_as_seldom_as_all_who_read_it_bear() -> None:
    async with stage_with(backend={"signals_every_s": 3}) as stage:
        paces = {s.backends[0].name: s.every_s for s in stage.parts.catalog.watched}
        names = [stage.parts.catalog.models[m].backends[0].name for m in ("first", "second")]
        assert [paces[name] for name in names] == [3.0, None]
        stage.first.metrics = stage.second.metrics = load(1, 0)
        await told(stage)  # until it speaks it is asked at another pace
        both = (stage.first, stage.second)
        before = [backend.times_read for backend in both]
        await eventually(lambda: stage.second.times_read > before[1] + 20)
        seldom, often = (b.times_read - was for b, was in zip(both, before, strict=True))
        assert 5 * seldom < often
    backends = [{"url": "http://vllm:8000/v1", "signals_every_s": s} for s in (5, 2)]
    for together, expected in ((backends, 2.0), ([*backends, {"url": backends[0]["url"]}], None)):
        models = {f"m{i}": {"backends": [backend]} for i, backend in enumerate(together)}
        (server,) = Catalog(parse_config({"models": models}, "the test"), SystemClock()).watched
        assert server.every_s == expected


async def test_https_and_who_is_not_to_be_watched_are_left_alone() -> None:
    async with stage_with(backend={"signals": False}) as stage:
        watched = {id(b) for s in stage.parts.catalog.watched for b in s.backends}
        handles = {m: stage.parts.catalog.models[m].backends[0] for m in ("first", "second")}
        assert watched == {id(handles["second"])}


async def test_engine_and_endpoint_picker_get_session_priority_rank_and_objectives() -> None:
    async with stage_with(endpoints=("chat",)) as stage:
        stage.first.will(says(completion()))
        told_headers = {
            "x-session-id": "s1",
            "x-vllm-priority": "-3",
            "x-data-parallel-rank": "2",
            "x-session-token": "bW9kZWwtMA==",
            "x-llm-d-inference-objective": "chat",
            "x-llm-d-inference-fairness-id": "team-a",
            "x-llm-d-slo-ttft-ms": "200",
            "x-llm-d-slo-tpot-ms": "12.5",
            "x-gateway-inference-objective": "chat",
            "x-other": "1",
        }
        for path, body in (
            ("chat/completions", ASK),
            ("responses", {"model": "auto", "input": "Hi"}),
        ):
            answer = await stage.client.post(
                f"/v1/{path}", json={**body, "model": "first"}, headers=told_headers
            )
            assert answer.status_code == 200
            got = stage.first.requests.pop().headers
            assert {k: got.get(k) for k in told_headers} == {**told_headers, "x-other": None}
        for name, value in (
            ("x-vllm-priority", "high"),
            ("x-data-parallel-rank", "-1"),
            ("x-llm-d-slo-ttft-ms", "soon"),
        ):
            answer = await stage.client.post(
                "/v1/chat/completions", json=ASK, headers={name: value}
            )
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == name


async def test_an_adapter_that_was_unloaded_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_EVERY_S", 0.02)
    async with stage_with() as stage:
        health = stage.parts.catalog.models["first"].backends[0].health
        for backend in (stage.first, stage.second):
            backend.will(says(completion()))
        assert (await stage.ask()).headers["x-routing-model"] == "first"
        stage.first.models = ["served-name", "other"]
        await eventually(lambda: health._is_listed is True)
        stage.first.models = ["other"]
        await eventually(lambda: not health.is_usable(stage.parts.clock.monotonic_s()))
        assert (await stage.ask()).headers["x-routing-model"] == "second"
        stage.first.models = ["served-name"]
        await eventually(lambda: health.is_usable(stage.parts.clock.monotonic_s()))
        assert (await stage.ask()).headers["x-routing-model"] == "first"
        await stage.census()
