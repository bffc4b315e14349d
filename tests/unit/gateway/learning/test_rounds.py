"""Rounds of learning: better routers come into force, worse ones never, and a kill changes nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.cli import main
from gateway.errors import ConfigError
from gateway.learning.rounds import Learner, Step
from gateway.learning.versions import History, VersionStore
from router_models.artifact import load_suite
from router_models.evaluation.predictions import predict_all
from tests.unit.gateway.learning.traffic import MODELS, TRUTH, World, best, kind_of, worst

THALAMUS = Path(sys.executable).with_name("thalamus")


def learner(world: World) -> Learner:
    return Learner(world.config, world.clock_s)


def worth(world: World, version: str) -> float:
    """True mean quality of a version's choices on new prompts."""
    router = load_suite(VersionStore(world.config.learning.folder).artifact(version))  # type: ignore[union-attr]
    prompts = [world.prompt() for _ in range(200)]
    chosen = predict_all(router.named("perceptive"), prompts).quality.argmax(axis=1)
    return float(
        np.mean(
            [
                TRUTH[kind_of(prompt)][MODELS.index(router.models[choice])]
                for prompt, choice in zip(prompts, chosen, strict=True)
            ]
        )
    )


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Step], History]:
    """A world whose router always chose badly, and what rounds of learning made of it."""
    world = World(tmp_path_factory.mktemp("world"))
    world.serve(150, worst)
    steps = [learner(world).run_round()]
    world.serve(450, worst)
    steps.append(learner(world).run_round())
    steps.append(learner(world).run_round())
    world.serve(400, worst)
    steps.append(learner(world).run_round())
    return world, steps, learner(world).store.read()


def test_a_router_is_trained_put_into_shadow_and_promoted(
    learnt: tuple[World, list[Step], History],
) -> None:
    world, steps, history = learnt
    assert [step.stage for step in steps] == [None, "shadow", None, "promoted"]
    assert steps[0].reason == "waits: 150 newly scored requests of 200"
    assert steps[2].reason.endswith("in shadow, 0 scored of 100")
    (version,) = history.versions
    assert history.active == version.id == steps[1].version
    assert version.reason.startswith("confirmed in shadow: +0.")
    assert version.train_prompts is not None
    assert 350 < version.train_prompts < 450, "three tenths of 600 prompts are held out"
    found = version.metrics
    assert found.difference_low is not None
    assert found.difference_low > 0.2, "the truth is 0.9 against 0.3"
    assert found.difference_high is not None
    assert found.difference_high > 0.6 > found.difference_low
    assert worth(world, version.id) > 0.88


def test_what_is_taught_wrongly_is_turned_down(tmp_path: Path) -> None:
    world = World(tmp_path, data=[str(tmp_path / "wrong.parquet")])
    turned = {"code": TRUTH["law"], "law": TRUTH["code"]}
    prompts = [world.prompt() for _ in range(500)]
    rows = [(p, m, turned[kind_of(p)][i]) for p in prompts for i, m in enumerate(MODELS)]
    table = pa.table(
        {
            "prompt_id": [p for p, _, _ in rows],
            "prompt": [p for p, _, _ in rows],
            "model": [m for _, m, _ in rows],
            "score": [s for _, _, s in rows],
            **dict.fromkeys(("source", "task"), ["x"] * len(rows)),
            "split": ["train"] * len(rows),
            **dict.fromkeys(("prompt_tokens", "completion_tokens"), [9] * len(rows)),
        }
    )
    pq.write_table(table, tmp_path / "wrong.parquet")
    world.serve(250, best)
    step = learner(world).run_round()
    assert step.stage == "rejected"
    assert step.reason.startswith("worse: -0.")
    history = learner(world).store.read()
    assert history.active is None
    assert history.find(str(step.version)).metrics.difference < -0.3  # type: ignore[operator]


def test_noise_is_not_taken_for_skill(tmp_path: Path) -> None:
    """Scores that have nothing to do with the answer promote nobody."""
    world = World(tmp_path, seed=5)
    coin = np.random.default_rng(3)

    def any_score(prompt: str, model: str) -> float:
        return float(coin.random() < 0.5)

    world.serve(400, worst, any_score)
    step = learner(world).run_round()
    assert step.stage == "rejected", step
    assert step.reason.startswith(("not better with confidence", "worse", "too little"))
    assert learner(world).store.read().active is None


def test_without_exploration_there_is_no_evidence(tmp_path: Path) -> None:
    world = World(tmp_path, explored=0.0)
    world.serve(100, best)
    world.serve(150, worst)
    step = learner(world).run_round()
    assert step.stage == "rejected"
    assert "explore more" in step.reason


def test_a_kill_at_any_moment_leaves_what_serves_and_the_next_round_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.serve(450, worst)
    store = learner(world).store
    command = [THALAMUS, "learn", "--config", world.config_path, "run"]
    draw = random.Random(1)
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            time.sleep(draw.uniform(0.3, 4.0))
            process.send_signal(signal.SIGKILL)
        history = store.read()
        assert history.active is None
        assert all((store.artifact(v.id) / "manifest.json").is_file() for v in history.versions)
    learner(world).run_round()
    assert [v.stage for v in store.read().versions] == ["shadow"]
    assert not list(store.folder.glob("new-*"))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    with learner(world)._alone(), pytest.raises(ConfigError, match="another thalamus learn runs"):
        learner(world).run_round()


def test_the_router_that_served_is_the_first_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    text = world.config_path.read_text().replace("artifact: none", "artifact: default")
    world.config_path.write_text(text)
    assert main(["learn", "--config", str(world.config_path), "run"]) == 0
    assert main(["learn", "--config", str(world.config_path), "status", "--json"]) == 0
    history = learner(world).store.read()
    assert history.serving is not None
    assert history.serving.reason == "served when learning began"
    assert history.active in capsys.readouterr().out
    # Nothing is copied twice.
    learner(world).run_round()
    assert learner(world).store.read() == history


def test_the_command_changes_what_serves(
    learnt: tuple[World, list[Step], History], capsys: pytest.CaptureFixture[str]
) -> None:
    world, _, _ = learnt
    config = ["learn", "--config", str(world.config_path)]
    store = learner(world).store
    active = store.read().active
    assert active is not None
    assert main([*config, "reject", active]) == 1
    assert "roll back to another one" in capsys.readouterr().err
    assert main([*config, "promote", "nobody"]) == 1
    assert "no version has the id 'nobody'" in capsys.readouterr().err
    assert main([*config, "status"]) == 0
    assert active in capsys.readouterr().out


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (("learning:", "policies: {}\nx-learning:"), "unknown key"),
        (("prompts: true", "prompts: false"), "decision_log: {path: FILE, prompts: true}"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, edit: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    world.config_path.write_text(world.config_path.read_text().replace(*edit))
    assert main(["learn", "--config", str(world.config_path), "run"]) == 1
    assert told in capsys.readouterr().err
