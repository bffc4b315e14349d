"""``thalamus train`` and whoever reads outcomes, given what nobody should give them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.cli import main
from router_models.training.dataset import MAX_PROMPT_BYTES, read_routing_data
from router_models.types import DataError
from tests.unit.router_models.conftest import outcome_rows

ROWS = outcome_rows(8)
NAN, INF = float("nan"), float("inf")

NUMBERS = st.one_of(st.none(), st.floats(), st.integers(-3, 3).map(float))
TEXTS = st.one_of(
    st.none(), st.text(max_size=20), st.sampled_from(["", " ", "train", "val", "coder", "code-1"])
)
CELLS = {
    **dict.fromkeys(("score", "prompt_tokens", "completion_tokens", "loss"), NUMBERS),
    **dict.fromkeys(("prompt_id", "source", "task", "prompt", "model", "split"), TEXTS),
}
SPOILS = st.lists(
    st.sampled_from(sorted(CELLS)).flatmap(
        lambda name: st.tuples(st.integers(0, len(ROWS) - 1), st.just(name), CELLS[name])
    ),
    max_size=4,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spoils=SPOILS, drop=st.one_of(st.none(), st.sampled_from(sorted(CELLS))))
@example(spoils=[(3, "score", NAN)], drop=None)
@example(spoils=[(3, "completion_tokens", INF)], drop=None)
@example(spoils=[(3, "model", "\t")], drop=None)
@example(spoils=[(3, "prompt_id", "code-0")], drop=None)
@example(spoils=[], drop="split")
def test_whatever_stands_in_a_cell_is_read_rightly_or_refused_by_name(spoils, drop, tmp_path):
    rows = [dict(row) for row in ROWS]
    for at, name, value in spoils:
        rows[at][name] = value
    if drop is not None:
        rows = [{k: v for k, v in row.items() if k != drop} for row in rows]
    path = tmp_path / "d.parquet"
    names = sorted({name for row in rows for name in row})
    columns = {
        name: pa.array(
            [row.get(name) for row in rows],
            pa.float64() if CELLS[name] is NUMBERS else pa.string(),
        )
        for name in names
    }
    pq.write_table(pa.table(columns), path)
    try:
        data = read_routing_data(path)
    except DataError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < 400
        named = [name for _, name, _ in spoils] + ([drop] if drop else [])
        assert any(repr(name) in said or name in said for name in (*named, "prompt_id"))
        return
    shape = (len(data.prompts), len(data.models))
    assert data.scores.shape == data.completion_tokens.shape == shape
    known = data.scores[~np.isnan(data.scores)]
    assert ((known >= 0) & (known <= 1)).all()
    assert len(known) == len(rows) or data.withheld
    assert not np.isinf(data.completion_tokens).any()
    assert not (data.completion_tokens < 0).any()
    assert all(name.strip() for name in (*data.models, *data.tasks, *data.splits))


def change(**fields):
    """Change the fourth row and its pair."""
    return lambda rows: [r | (fields if i == 3 else {}) for i, r in enumerate(rows)]


def without(column):
    return lambda rows: [{k: v for k, v in r.items() if k != column} for r in rows]


TRAIN = [
    (without("score"), "column 'score' is missing"),
    (without("completion_tokens"), "column 'completion_tokens' is missing"),
    (change(score=1.5), "row 3: column 'score' must lie in [0, 1]"),
    (change(score=NAN), "row 3: column 'score' must lie in [0, 1]"),
    (lambda rows: [r | {"score": 100 * r["score"]} for r in rows], "rescale it"),
    (change(completion_tokens=-1), "row 3: column 'completion_tokens' must be finite"),
    (change(prompt_tokens=INF), "row 3: column 'prompt_tokens' must be finite"),
    (change(model=" "), "row 3: column 'model' is blank"),
    (change(prompt_id=""), "row 3: column 'prompt_id' is blank"),
    (change(split=""), "row 3: column 'split' is blank"),
    (change(prompt="x" * 10 * MAX_PROMPT_BYTES), "row 3: column 'prompt' is longer than 1 MB"),
    (lambda rows: [*rows, rows[5]], "row 80: its prompt_id and model stand already in row 5"),
    (lambda rows: [r for r in rows if r["model"] == "coder"], "column 'model' holds only 'coder'"),
    (
        lambda rows: [r for r in rows if r["split"] == "val" or r["model"] == "coder"],
        "column 'model': of the split 'train' every row is 'coder'",
    ),
    (lambda rows: [r | {"split": "val"} for r in rows], "column 'split': no row is 'train'"),
    (
        lambda rows: [r | {"split": "Trian"} for r in rows],
        "the file has 'Trian'; is 'Trian' meant?",
    ),
    (lambda rows: rows[:18], "6 training prompts; 10 are needed"),
]


@pytest.mark.parametrize(("spoil", "says"), TRAIN)
def test_train_names_what_is_wrong_and_leaves_nothing(spoil, says, rows, write, tmp_path, capsys):
    data = write(spoil(rows))
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "artifact"
    assert main(["train", "--data", str(data), "--out", str(out), "--router", "perceptive"]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert len(said) < 500
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("place", "says"),
    [("{tmp}", "is a folder; name one parquet file"), ("{tmp}/none", "there is no such file")],
)
def test_a_place_without_data_is_said_to_be_one(place, says, tmp_path, capsys):
    place = place.format(tmp=tmp_path)
    assert main(["train", "--data", place, "--out", str(tmp_path / "a")]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_what_is_no_artifact_is_said_to_be_none(command, rows, write, tmp_path, capsys):
    data = str(write(rows))
    (tmp_path / "empty").mkdir()
    rest = ["--out", str(tmp_path / "p")] if command == "predict" else []
    for router, says in (
        (data, "is no folder; a router artifact is one"),
        (str(tmp_path / "nowhere"), "is no folder; a router artifact is one"),
        (str(tmp_path / "empty"), "manifest.json: is missing, so empty is no router artifact"),
    ):
        assert main([command, "--router", router, "--data", data, *rest]) == 1
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seed", "--steps"])
def test_a_negative_number_is_refused(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--data", "d", "--out", str(tmp_path / "a"), option, "-1"])
    assert f"argument {option}: must not be negative" in capsys.readouterr().err


def test_what_was_left_out_or_never_measured_is_told(rows, write, tmp_path, capsys):
    idle = [r | {"model": "idle"} for r in rows if r["split"] == "val" and r["model"] == "coder"]
    leak = [r | {"task": "other", "split": "test"} for r in rows if r["prompt_id"] == "code-1"]
    data = str(write(rows + idle + leak))
    assert (
        main(["train", "--data", data, "--out", str(tmp_path / "a"), "--router", "perceptive"]) == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "Prompts by split: 1 of 'test', 29 of 'train', 10 of 'val'" in said
    assert "Without a training row, so the mean is predicted: idle." in said
    assert "1 training prompts withheld: also evaluated on" in said
