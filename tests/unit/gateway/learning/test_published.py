"""What a learner leaves in its folder, and what a gateway shows of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.learning.published import watch_learning
from gateway.learning.rounds import Learner
from gateway.learning.steps import Labels, StepReport, read_report, report_path, write_report
from gateway.telemetry.metrics import Metrics
from router_models.types import DataError
from tests.unit.gateway.learning.traffic import MODELS, World, worst


async def published(world: World, metrics: Metrics) -> dict[str, float]:
    """The gauges of the loop, once they are set."""
    section = world.config.learning
    assert section is not None
    watch = asyncio.create_task(watch_learning(section, MODELS, metrics.learning, 0.01))
    await asyncio.sleep(0.1)
    watch.cancel()
    lines = metrics.exposition().decode().splitlines()
    samples = [line.rsplit(" ", 1) for line in lines if line.startswith("thalamus_learning_")]
    return {name.removeprefix("thalamus_learning_"): float(value) for name, value in samples}


def report_of(world: World) -> StepReport:
    section = world.config.learning
    assert section is not None
    found = read_report(section.folder)
    assert found is not None
    return found


async def test_a_step_that_waits_is_a_good_one_and_says_what_there_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    metrics = Metrics()
    assert await published(world, metrics) == {
        f'versions{{stage="{stage}"}}': 0.0
        for stage in ("trained", "shadow", "promoted", "rejected", "rolled_back")
    }
    world.serve(20, worst)
    Learner(world.config, world.clock_s, every_s=3600.0).run_round()
    report = report_of(world)
    assert report.said == "waits: 20 newly scored requests of 200"
    assert (report.is_good, report.failed_s, report.every_s) == (True, None, 3600.0)
    assert report.logged.prompts == sum(report.logged.by_model.values()) == 20
    shown = await published(world, metrics)
    assert shown['last_step_timestamp_seconds{result="ok"}'] == report.good_s == world.now_s
    assert shown['last_step_timestamp_seconds{result="failed"}'] == 0
    assert shown["step_every_seconds"] == 3600
    assert shown['prompts{source="log"}'] == 20
    for model in MODELS:
        assert shown[f'labels{{model="{model}",source="log"}}'] == report.logged.by_model[model]
    assert 'gain{bound="mean"}' not in shown, "nothing was judged: silence is not zero"


async def test_a_step_that_fails_is_told_and_the_last_good_one_remembered(tmp_path: Path) -> None:
    world = World(tmp_path, data=[str(tmp_path / "measured.parquet")])
    world.serve(20, worst)
    Learner(world.config, world.clock_s).run_round()
    good_s = report_of(world).good_s
    (tmp_path / "measured.parquet").write_bytes(b"no parquet")
    with pytest.raises((DataError, GatewayError)):
        Learner(world.config, world.clock_s, every_s=60.0).run_round()
    report = report_of(world)
    assert (report.is_good, report.good_s, report.failed_s) == (False, good_s, world.now_s)
    assert "measured.parquet" in report.said
    metrics = Metrics()
    shown = await published(world, metrics)
    assert shown['last_step_timestamp_seconds{result="ok"}'] == good_s
    assert shown['last_step_timestamp_seconds{result="failed"}'] == world.now_s


async def test_strangers_are_counted_together_and_what_cannot_be_read_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    section = world.config.learning
    assert section is not None
    strangers = Labels(7, {"coder": 3, "a-model": 4, "another": 5})
    write_report(section.folder, StepReport(said="x", is_good=True, good_s=5.0, measured=strangers))
    metrics = Metrics()
    shown = await published(world, metrics)
    measured = {k: v for k, v in shown.items() if 'source="measured"' in k and "labels" in k}
    assert measured == {
        f'labels{{model="{model}",source="measured"}}': count
        for model, count in (("coder", 3), ("lawyer", 0), ("soso", 0), ("other", 9))
    }
    report_path(section.folder).write_text("{")
    assert await published(world, metrics) == pytest.approx(shown, nan_ok=True)
    assert caplog.text.count("what was learnt is not shown") == 1
    metrics.learning.forget()
    told = metrics.exposition().decode().splitlines()
    values = {line.rsplit(" ", 1)[1] for line in told if line.startswith("thalamus_learning_")}
    assert values == {"NaN"}
