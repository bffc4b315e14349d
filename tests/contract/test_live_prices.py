"""What a request costs on hardware of one's own, and how readable a model turns out to be."""

from __future__ import annotations

import json

import pytest

from gateway.config import parse_config
from gateway.decision.readability import EVERY
from gateway.errors import ConfigError
from tests.fakes.backend import DONE, completion, event, says, streams
from tests.faults.conftest import ASK, Stage, stage_with

GPU = {"price_usd_per_mtok": None, "gpu_usd_per_hour": 3.6}


async def candidate(stage: Stage, model: str) -> dict[str, float | None]:
    dry = await stage.client.post("/v1/route", json=ASK)
    return next(c for c in dry.json()["candidates"] if c["model"] == model)


async def test_own_hardware_is_paid_by_the_time_it_takes() -> None:
    async with stage_with(second=GPU) as stage:
        assert (await candidate(stage, "second"))["predicted_cost_usd"] is None
        health = stage.parts.catalog.models["second"].backends[0].health
        health.ttft_ms.value, health.token_ms.value = 500.0, 20.0
        # 3.6 USD an hour is 1e-6 USD a millisecond.
        found = await candidate(stage, "second")
        expected = (500 + found["predicted_output_tokens"] * 20) * 1e-6  # type: ignore[operator]
        assert found["predicted_cost_usd"] == pytest.approx(expected)
        health.inflight = 3
        found = await candidate(stage, "second")
        assert found["predicted_cost_usd"] == pytest.approx(expected / 4)
        health.inflight = 0
        stage.second.will(says(completion()))
        answer = await stage.ask(model="second")
        (row,) = stage.parts.ledger.recent
        # It read 10 tokens and wrote 4; the price of reading was that of the estimated prompt.
        estimated = len(json.dumps(ASK["messages"], separators=(",", ":"))) // 4 + 1
        paid = (500 * 10 / estimated + 4 * 20) * 1e-6
        assert answer.json()["usage"]["cost"] == pytest.approx(paid)
        assert row.cost_nanos == pytest.approx(paid * 1e9, abs=1)
        await stage.census()


PLAIN = "The cat sat on it. " * 8
HARD = "institution " * 30 + "."


async def test_readability_is_measured_on_answers_whole_and_streamed() -> None:
    async with stage_with(second={"readability": 0.5}) as stage:
        models = stage.parts.catalog.models
        stage.first.will(says(completion(PLAIN)))
        for _ in range(8 * EVERY):
            await stage.ask(model="first")
        assert models["first"].readability.value == 1.0
        stage.second.will(streams(event(HARD), event("", finish="stop"), DONE))
        await stage.stream(model="second")
        assert models["second"].readability.value == pytest.approx(0.5 * 8 / 9)
        readable = {**ASK, "model": "auto:readable"}
        dry = await stage.client.post("/v1/route", json=readable)
        assert dry.json()["chosen"] == "first"
        assert "readability" in dry.json()["explanation"]
        await stage.census()


async def test_a_price_list_and_a_price_of_hardware_exclude_each_other() -> None:
    model = {
        "backends": [{"url": "http://127.0.0.1:1/v1"}],
        "gpu_usd_per_hour": 1,
        "price_usd_per_mtok": {"input": 1, "output": 1},
    }
    with pytest.raises(ConfigError, match=r"models\.m\.gpu_usd_per_hour: .* not both"):
        parse_config({"models": {"m": model}}, "the test")
    with pytest.raises(ConfigError, match="gpu_usd_per_hour"):
        parse_config({"models": {"m": {**model, "gpu_usd_per_hour": 0}}}, "the test")
