import json
import shutil
from io import StringIO

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from router_models.artifact import DEFAULT, load, load_suite
from router_models.commands import predict_command, train_command
from router_models.pilot_commands import (
    add_model_command,
    choose_model_command,
    export_prompts_command,
    list_pilots_command,
    remove_model_command,
)
from router_models.training.dataset import read_routing_data
from router_models.types import ArtifactError, DataError

QUIET = Console(quiet=True)


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def optimal(router, data):
    columns = [data.models.index(m) for m in router.models]
    quality = np.array([router.score(p).quality for p in data.prompts])
    return float((data.losses[:, columns].argmin(axis=1) == quality.argmax(axis=1)).mean())


def test_a_model_measured_on_the_pilot_prompts_alone_routes_nearly_as_well(copy, expert_library):
    data = read_routing_data(expert_library).evaluation()
    before = optimal(load_suite(copy).retriever, data)
    remove_model_command(copy, "smollm2-135m-math")
    gone = load_suite(copy).retriever
    assert "smollm2-135m-math" not in gone.models
    add_model_command(copy, "smollm2-135m-math", expert_library, console=QUIET)
    added = load_suite(copy).retriever
    assert added.models[-1] == "smollm2-135m-math"
    assert optimal(added, data) > before - 0.02


def test_a_change_is_a_new_version_of_the_same_weights_and_is_on_record(copy):
    before = load(copy)
    version = remove_model_command(copy, "smollm2-135m-math")
    after = load(copy)
    assert version == after.version != before.version
    np.testing.assert_array_equal(after.table, before.table)
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest["training"]["pilot_changes"] == [{"removed": "smollm2-135m-math"}]
    assert "By task" in (copy / "report.html").read_text()


def test_only_rows_of_pilot_prompts_count(copy, expert_library):
    printed = StringIO()
    stored = {p.prompt_id for own in load_suite(copy).retriever.library.prompts for p in own}
    remove_model_command(copy, "smollm2-135m-math")
    console = Console(file=printed, width=120)
    add_model_command(copy, "smollm2-135m-math", expert_library, console=console)
    prompts = len(set(pq.read_table(expert_library)["prompt_id"].to_pylist()))
    said = printed.getvalue()
    assert f"measured on {len(stored)} of {len(stored)} stored pilot prompts" in said
    assert f"{prompts - len(stored)} other rows passed over" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, "no row is 'new'"),
        ({"prompt_id": "nowhere"}, "no row of 'new' is of a stored pilot prompt"),
        ({"loss": -1.0}, "row 0: column 'loss'"),
    ],
)
def test_outcomes_that_cannot_be_used_change_nothing(copy, write, change, message):
    prompt = load_suite(copy).retriever.library.prompts[0][0]
    row = {"prompt_id": prompt.prompt_id, "model": "new", "loss": 1.0} | change
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(DataError, match=message):
        add_model_command(copy, "new", write([row]), console=QUIET)
    assert (copy / "manifest.json").read_bytes() == before


def test_a_known_model_is_not_added_twice(copy, expert_library):
    with pytest.raises(DataError, match="know 'smollm2-135m' already"):
        add_model_command(copy, "smollm2-135m", expert_library, console=QUIET)


def test_the_stored_prompts_are_written_for_measuring(copy, tmp_path):
    written = export_prompts_command(copy, tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["prompt_id", "prompt"]
    assert table.num_rows == written > 100


def test_the_pilots_are_listed():
    printed = StringIO()
    list_pilots_command("default", console=Console(file=printed, width=160))
    assert "smollm2-135m-patents" in printed.getvalue()
    assert "pilots of 1080 prompts" in printed.getvalue()


def test_an_artifact_without_pilots_says_so(rows, write, tmp_path):
    train_command(write(rows), tmp_path / "a", router="perceptive", console=QUIET)
    assert load_suite(tmp_path / "a").kinds == ("perceptive",)
    with pytest.raises(ArtifactError, match="train with --router retriever"):
        list_pilots_command(tmp_path / "a")
    with pytest.raises(DataError, match="no retriever router; it has perceptive"):
        predict_command(tmp_path / "a", write(rows), tmp_path / "p", kind="retriever")


def test_predict_shows_the_nearest_pilots(trained, expert_library, tmp_path):
    out = tmp_path / "p.parquet"
    predict_command(trained, expert_library, out, kind="retriever", nearest=3)
    row = pq.read_table(out).slice(0, 1).to_pylist()[0]
    near = row["nearest_pilots"]
    assert [n["similarity"] for n in near] == sorted((n["similarity"] for n in near), reverse=True)
    assert len(near) == 3
    assert near[0]["prompts"] > 0
    assert near[0]["error"] > 0


def test_the_shipped_artifact_is_small():
    assert sum(file.stat().st_size for file in DEFAULT.iterdir()) <= 8_000_000
    assert "retriever" in load_suite(DEFAULT).kinds


@pytest.mark.parametrize(("task", "expert"), [("code", "coder"), ("law", "lawyer")])
def test_one_model_is_chosen_for_a_whole_index(rows, write, tmp_path, task, expert):
    train_command(write(rows), tmp_path / "a", console=QUIET)
    sample = write([r for r in rows if r["task"] == task and r["split"] == "val"])
    printed = StringIO()
    console = Console(file=printed, width=120)
    assert choose_model_command(tmp_path / "a", sample, console=console) == expert
    assert f"One model for all of them: {expert}" in printed.getvalue()


@pytest.mark.parametrize("file", ["pilots.npz", "pilots.json"])
def test_pilots_that_were_changed_are_refused(copy, file):
    path = copy / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match=f"{file}: its SHA-256"):
        load_suite(copy)


def test_pilots_that_disagree_with_their_arrays_are_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["retriever"]["models"] = ["one"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="array 'measured'"):
        load_suite(copy)
