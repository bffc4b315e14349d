"""Versions come and go one step at a time, and a kill at any moment leaves one of them in force."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import ConfigError, InvalidRequest, NotFound
from gateway.learning import versions as versions_module
from gateway.learning.versions import KEPT_ARTIFACTS, Measures, Stage, Version, VersionStore
from router_models.artifact import DEFAULT, load_suite


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "learning")


def keep(store: VersionStore, name: str, stage: Stage = "shadow") -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    artifact = Path(shutil.copytree(DEFAULT, store.folder / f"new-{name}"))
    store.keep(Version(id=name, created_s=1.0, stage=stage, reason="made by a test"), artifact)


def stages(store: VersionStore) -> dict[str, str]:
    return {version.id: version.stage for version in store.read().versions}


def test_an_empty_folder_is_an_empty_history(store: VersionStore) -> None:
    assert store.read().document() == {"enabled": True, "active": None, "versions": []}
    assert not store.folder.exists(), "reading makes nothing"


def test_versions_are_promoted_and_rolled_back(store: VersionStore) -> None:
    keep(store, "a")
    keep(store, "b")
    store.promote("a", "first", 10.0)
    history = store.promote("b", "better", 20.0)
    assert history.active == "b"
    assert (store.folder / "active").resolve() == store.artifact("b").resolve()
    assert load_suite(store.folder / "active").version
    assert stages(store) == {"a": "promoted", "b": "promoted"}

    history = store.roll_back("a", "complaints", 30.0)
    assert history.active == "a"
    assert stages(store) == {"a": "promoted", "b": "rolled_back"}
    document = history.document()
    assert document["active"]["id"] == "a"
    assert document["active"]["since_s"] == 30.0
    assert document["versions"][0]["reason"] == "complaints"
    assert document["versions"][1]["reason"] == "rolled back to a"
    assert store.roll_back("b", "it was not the cause", 40.0).active == "b"


def test_what_makes_no_sense_is_refused_and_changes_nothing(store: VersionStore) -> None:
    keep(store, "a")
    keep(store, "b")
    store.promote("a", "first", 10.0)
    before = store.read()
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (NotFound, lambda: store.promote("c", "", 1.0)),
        (NotFound, lambda: store.reject("../a", "")),
        (InvalidRequest, lambda: store.promote("a", "", 1.0)),
        (InvalidRequest, lambda: store.reject("a", "")),
        (InvalidRequest, lambda: store.roll_back("b", "", 1.0)),
        (InvalidRequest, lambda: store.roll_back("a", "", 1.0)),
        (InvalidRequest, lambda: keep(store, "b")),
    ]
    for error, act in refused:
        with pytest.raises(error):
            act()
    assert store.read() == before


def test_a_damaged_artifact_is_not_brought_into_force(store: VersionStore) -> None:
    keep(store, "a")
    keep(store, "b")
    store.promote("a", "first", 10.0)
    (store.artifact("b") / "weights.npz").write_bytes(b"not weights")
    with pytest.raises(InvalidRequest, match=r"cannot be used: .*weights\.npz"):
        store.promote("b", "better", 20.0)
    assert store.read().active == "a"


@pytest.mark.parametrize("step", range(4))
def test_a_crash_between_any_two_steps_leaves_the_old_or_the_new_one(
    store: VersionStore, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, "a")
    keep(store, "b")
    store.promote("a", "first", 10.0)
    left = [step]
    rename = Path.replace

    class PowerIsGone(BaseException):
        pass

    def fails_in_time(path: Path, target: Path) -> Path:
        if not left[0]:
            raise PowerIsGone
        left[0] -= 1
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(versions_module.Path, "replace", fails_in_time)
        if step < 3:
            with pytest.raises(PowerIsGone):
                store.promote("b", "better", 20.0)
        else:
            store.promote("b", "better", 20.0)
    history = store.read()
    assert history.active == ("a" if step < 2 else "b")
    assert history.find("b").stage == ("shadow" if step < 2 else "promoted")
    assert history.serving is not None
    assert load_suite(store.folder / "active")
    # The next change settles it: nothing half done is left.
    store.reject("a" if step >= 2 else "b", "tidy")
    assert not list(store.folder.glob("*.partial"))
    assert b'"pending": null' in (store.folder / "state.json").read_bytes()


SWINGS = """
import itertools, sys, time
from pathlib import Path
from gateway.learning.versions import VersionStore
store = VersionStore(Path(sys.argv[1]))
print("ready", flush=True)
for turn in itertools.count():
    store.roll_back("ab"[store.read().active == "a"], "swing", time.time())
"""


def test_a_kill_at_any_moment_leaves_one_version_in_force(store: VersionStore) -> None:
    for name in ("a", "b"):
        keep(store, name)
        store.promote(name, "first", 10.0)
    draw = random.Random(7)
    found = set()
    for _ in range(8):
        command = [sys.executable, "-c", SWINGS, str(store.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.uniform(0.05, 0.4))
            os.kill(process.pid, signal.SIGKILL)
        history = store.read()
        assert history.active in {"a", "b"}
        assert stages(store)[history.active] == "promoted"
        other = "ab"[history.active == "a"]
        assert stages(store)[other] in {"rolled_back", "promoted"}
        assert load_suite((store.folder / "active").resolve())
        found.add(history.active)
        store.roll_back(other, "the lock died with its holder", time.time())
    assert found <= {"a", "b"}


def test_metrics_are_shown_as_measured(store: VersionStore) -> None:
    keep(store, "a")
    measured = Measures(0.7, 0.6, 0.1, 0.05, 0.15)
    version = store.read().find("a")
    store.update(Version(**{f: getattr(version, f) for f in version.__struct_fields__} | {
        "metrics": measured
    }))  # fmt: skip
    (shown,) = store.read().document()["versions"]
    assert shown["metrics"] == {
        "routed_quality": 0.7,
        "best_single": 0.6,
        "difference": 0.1,
        "difference_low": 0.05,
        "difference_high": 0.15,
    }


def test_a_history_that_cannot_be_read_says_where(store: VersionStore) -> None:
    keep(store, "a")
    state = store.folder / "state.json"
    state.write_text(state.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(ConfigError, match=r"state\.json: format 9; this build reads 1"):
        store.read()
    state.write_text("{")
    with pytest.raises(ConfigError, match=r"state\.json"):
        store.read()


def test_artifacts_of_what_was_turned_down_do_not_pile_up(store: VersionStore) -> None:
    names = [f"v{number:02}" for number in range(KEPT_ARTIFACTS + 3)]
    store.folder.mkdir()
    for name in names:
        (store.folder / f"new-{name}").mkdir()
        store.keep(
            Version(id=name, created_s=1.0, stage="rejected", reason="no better"),
            store.folder / f"new-{name}",
        )
    store.forget_artifacts()
    assert len(store.read().versions) == len(names)
    there = sorted(path.name for path in (store.folder / "versions").iterdir())
    assert there == names[3:]
