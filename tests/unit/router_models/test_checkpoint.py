"""What a killed training run leaves is taken up again, and changes nothing in what comes out."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from router_models.training.checkpoint import Checkpoint, checkpoint_beside
from router_models.training.sparse import Floats
from router_models.types import DataError
from tests.unit.router_models.conftest import outcome_rows, write_rows

THALAMUS = Path(sys.executable).parent / "thalamus"


@dataclass(frozen=True)
class Inner:
    rows: Floats
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    parts: list[Floats]
    number: float
    accuracy: float | None


VALUE = Outer(
    Inner(np.arange(6, dtype=np.float32).reshape(2, 3), ("a", "ü")),
    [np.zeros((0, 2), np.float32), np.ones(3, np.float32)],
    float("inf"),
    None,
)


def equal(first, second):
    np.testing.assert_array_equal(first.inner.rows, second.inner.rows)
    assert first.inner.rows.dtype == second.inner.rows.dtype
    assert first.inner.names == second.inner.names
    for a, b in zip(first.parts, second.parts, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.number, first.accuracy) == (second.number, second.accuracy)


def test_a_stage_is_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return VALUE

    for _ in range(3):
        checkpoint = Checkpoint(tmp_path / "c", {"seed": 1})
        equal(checkpoint.stage("one", Outer, compute), VALUE)
    assert len(calls) == 1
    assert checkpoint.resumed == ["one"]


def test_another_question_takes_nothing_over(tmp_path):
    Checkpoint(tmp_path / "c", {"seed": 1}).stage("one", Outer, lambda: VALUE)
    again = Checkpoint(tmp_path / "c", {"seed": 2})
    assert again.arrays("one") is None


def test_without_a_folder_nothing_is_kept():
    checkpoint = Checkpoint()
    assert checkpoint.stage("one", Outer, lambda: VALUE) is VALUE
    assert checkpoint.arrays("one") is None


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "diary.txt").write_text("mine")
    with pytest.raises(DataError, match="stands where training keeps its checkpoint"):
        Checkpoint(tmp_path / "c", {"seed": 1})
    assert (tmp_path / "c" / "diary.txt").read_text() == "mine"


def test_a_removed_checkpoint_leaves_nothing(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", {})
    checkpoint.stage("one", Outer, lambda: VALUE)
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def run(data, out, *, kill_at=0, encoder="lexical"):
    """Run ``thalamus train``; with ``kill_at`` kill it once so many stages are on disk."""
    command = [THALAMUS, "train", "--data", data, "--out", out, "--encoder", encoder]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        kept = checkpoint_beside(out)
        while kill_at and process.poll() is None:
            if len(list(kept.glob("*.npz"))) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        printed = process.communicate()[0]
    return process.returncode, printed


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("encoder", "prompts", "kills"), [("lexical", 400, (1, 3)), ("minilm", 20, (1,))]
)
def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path, encoder, prompts, kills):
    data = write_rows(outcome_rows(prompts), tmp_path / "d.parquet")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(data, whole, encoder=encoder)[0] == 0
    assert not checkpoint_beside(whole).exists()
    for stages in kills:
        assert run(data, killed, kill_at=stages, encoder=encoder)[0] == -signal.SIGKILL
        assert not killed.exists()
    left = sorted(p.stem for p in checkpoint_beside(killed).glob("*.npz"))
    assert len(left) >= kills[-1]
    status, printed = run(data, killed, encoder=encoder)
    assert status == 0
    assert "Resumed after an earlier run" in printed
    assert all(stage in printed for stage in left)
    for path in whole.iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes(), path.name
    assert not checkpoint_beside(killed).exists()
