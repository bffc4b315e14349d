"""What ``predict`` and ``evaluate`` say of data that cannot be used, as a user sees it."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main

NAN = float("nan")
LONG = "word " * 2_000_000


def change(**fields):
    """Change the fourth row."""
    return lambda rows: [r | (fields if i == 3 else {}) for i, r in enumerate(rows)]


def without(column):
    return lambda rows: [{k: v for k, v in r.items() if k != column} for r in rows]


EVALUATE = [
    (without("score"), "column 'score' is missing"),
    (without("split"), "column 'split' is missing"),
    (without("model"), "column 'model' is missing"),
    (change(score=1.5), "row 3: column 'score' must lie in [0, 1]"),
    (change(score=-0.1), "row 3: column 'score' must lie in [0, 1]"),
    (change(score=NAN), "row 3: column 'score' must lie in [0, 1]"),
    (change(score=None), "row 3: column 'score' must lie in [0, 1]"),
    (change(score=float("inf")), "row 3: column 'score' must lie in [0, 1]"),
    (lambda rows: [r | {"model": "coder"} for r in rows[::2]], "only 'coder'"),
    (lambda rows: [r | {"split": "train"} for r in rows], "every row is 'train'"),
    (lambda rows: [r | {"model": f"x-{r['model']}"} for r in rows], "the router knows coder"),
    (
        lambda rows: [r | {"score": str(r["score"]) + "?"} for r in rows],
        "'score' must hold numbers",
    ),
    (change(prompt=LONG), "row 3: column 'prompt' is longer than 1 MB"),
    (change(prompt=None), "row 3: column 'prompt' is empty"),
    (lambda rows: [*rows, rows[3]], "its prompt_id and model stand already in row 3"),
]
PREDICT = [
    (without("prompt"), "column 'prompt' is missing"),
    (without("prompt_id"), "column 'prompt_id' is missing"),
    (change(prompt=LONG), "row 3: column 'prompt' is longer than 1 MB"),
    (change(prompt=None), "row 3: column 'prompt' is empty"),
    (lambda rows: rows[:0], "column 'prompt_id' is missing"),
]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    from rich.console import Console

    from router_models.commands import train_command
    from tests.unit.router_models.conftest import outcome_rows, write_rows

    folder = tmp_path_factory.mktemp("bad")
    train_command(
        write_rows(outcome_rows(), folder / "d.parquet"),
        folder / "artifact",
        console=Console(quiet=True),
    )
    return str(folder / "artifact")


@pytest.mark.parametrize(("spoil", "says"), EVALUATE)
def test_evaluate_names_what_is_wrong(spoil, says, rows, write, artifact, capsys, tmp_path):
    page = tmp_path / "r.html"
    status = main(
        [
            "evaluate",
            "--router",
            artifact,
            "--data",
            str(write(spoil(rows))),
            "--report",
            str(page),
        ]
    )
    said = capsys.readouterr()
    assert status == 1
    assert says in said.err
    assert said.err.count("\n") == 1
    assert len(said.err) < 500
    assert not page.exists()


@pytest.mark.parametrize(("spoil", "says"), PREDICT)
def test_predict_names_what_is_wrong(spoil, says, rows, write, artifact, capsys, tmp_path):
    out = tmp_path / "out" / "p.parquet"
    data = str(write(spoil(rows)))
    status = main(["predict", "--router", artifact, "--data", data, "--out", str(out)])
    assert status == 1
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_an_unnamed_split_is_refused_with_those_there_are(rows, write, artifact, capsys):
    data = str(write(rows))
    assert main(["evaluate", "--router", artifact, "--data", data, "--split", "test"]) == 1
    assert "no row is 'test'; the file has 'train', 'val'" in capsys.readouterr().err


def test_no_trace_reaches_a_user(artifact, tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 but not really")
    thalamus = Path(sys.executable).parent / "thalamus"
    ran = subprocess.run(
        [thalamus, "evaluate", "--router", artifact, "--data", broken],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "cannot be read as parquet" in ran.stderr
