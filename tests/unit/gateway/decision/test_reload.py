"""An artifact that is replaced on disk is taken into use, and what depends on it follows."""

import asyncio
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from gateway.config import parse_config
from gateway.decision.endpoints import CHAT
from gateway.decision.reload import watch_artifact
from gateway.decision.scoring import LoadedRouters, load_routers
from gateway.errors import ConfigError, InvalidRequest
from gateway.parts import Parts, build_parts
from gateway.pipeline import Incoming
from gateway.tenancy.principals import ANONYMOUS
from router_models.artifact import DEFAULT
from router_models.commands import calibrate_command
from router_models.pilot_commands import remove_model_command

DATA = Path("router_models/datasets/expert_library.parquet")
EXPERTS = ["smollm2-135m", "smollm2-135m-code", "smollm2-135m-math"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT, tmp_path / "artifact"))


def parts_with(folder: Path, **router: object) -> Parts:
    backend = {"backends": [{"url": "http://127.0.0.1:1/v1"}]}
    section = {"artifact": str(folder), **router}
    models = dict.fromkeys(EXPERTS, backend)
    return build_parts(parse_config({"router": section, "models": models}, "the test"))


async def test_a_changed_artifact_is_used_without_a_restart(folder: Path) -> None:
    parts = parts_with(folder)
    scorer, policy = parts.pipeline.scorer, parts.decider.version
    adopted = asyncio.Event()

    def adopt(routers: LoadedRouters) -> None:
        parts.adopt_routers(routers)
        adopted.set()

    watch = asyncio.create_task(watch_artifact(parts.config, adopt, 0.01))
    assert "smollm2-135m-math" in scorer.score("2 + 2", "retriever").by_model
    await asyncio.sleep(0.05)
    version = await asyncio.to_thread(remove_model_command, folder, "smollm2-135m-math")
    await asyncio.wait_for(adopted.wait(), 20)
    assert scorer.version() == version
    assert "smollm2-135m-math" not in scorer.score("2 + 2", "retriever").by_model
    assert parts.decider.version != policy

    before = scorer.routers
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    await asyncio.sleep(0.1)
    assert scorer.routers is before
    assert not watch.done()
    watch.cancel()


def test_a_promise_made_with_the_old_router_is_void(folder: Path, tmp_path: Path) -> None:
    outcomes = tmp_path / "outcomes.json"
    calibrate_command(str(folder), DATA, outcomes, split=None, pass_score=0.03)
    parts = parts_with(folder, calibration=str(outcomes))
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "import os"}],
        "routing": {"guarantee": {"risk": 0.3, "confidence": 0.8}},
    }

    def plan() -> None:
        incoming = Incoming(CHAT, "r", {}, json.dumps(body).encode(), 0.0)
        parts.pipeline.plan(incoming, ANONYMOUS)

    plan()
    remove_model_command(folder, "smollm2-135m-patents")
    parts.adopt_routers(load_routers(parts.config))
    with pytest.raises(InvalidRequest, match=r"no router\.calibration"):
        plan()


async def test_an_artifact_with_another_sum_than_the_configured_one_is_not_taken(
    folder: Path,
) -> None:
    manifest = folder / "manifest.json"
    sha256 = hashlib.sha256(manifest.read_bytes()).hexdigest()
    parts = parts_with(folder, sha256=sha256)
    version = parts.pipeline.scorer.version()
    await asyncio.to_thread(remove_model_command, folder, "smollm2-135m-math")
    with pytest.raises(ConfigError, match=r"router.sha256: .*manifest.json has "):
        load_routers(parts.config)
    assert parts.pipeline.scorer.version() == version
