import json
from io import StringIO

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from router_models.artifact import load_suite
from router_models.commands import Reporting, evaluate_command, predict_command, train_command
from router_models.prices import Price
from router_models.types import ArtifactError, DataError


@pytest.fixture(scope="module")
def report(trained, expert_library):
    return evaluate_command(trained, expert_library, console=Console(quiet=True))


def test_the_shipped_outcomes_are_routed_to_the_expert_of_the_domain(report):
    router, single = report.policy("router"), report.policy("best single")
    assert router.mean_loss.high < single.mean_loss.low
    assert router.below_best_single.low > 0
    assert router.optimal_strict.low >= 0.6
    assert router.gap_closed.low >= 0.7
    assert len(report.tasks) == 4
    for task in report.tasks:
        assert task.specialist == f"smollm2-135m-{task.task}"
        assert task.picks_specialist.low >= 0.9


def test_predicted_quality_can_be_believed(report):
    for row in report.calibration:
        assert row.ece.value < 0.03
        # Of 28 groups nine tenths are meant to be inside; two standard errors are .11.
        assert 0.79 <= row.coverage.value <= 1


def test_train_leaves_an_artifact_with_its_provenance(trained):
    assert sorted(p.name for p in trained.iterdir()) == [
        "calibration.npz",
        "manifest.json",
        "pilots.json",
        "pilots.npz",
        "report.html",
        "weights.npz",
    ]
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["training"]["prompts"] == 1080
    assert manifest["training"]["seed"] == 0
    assert manifest["training"]["interval_coverage"] == 0.9
    assert manifest["metrics"]["router"]["gap_closed"]["value"] > 0.7
    assert "By task" in (trained / "report.html").read_text()


def test_training_again_gives_the_same_bytes(trained, expert_library, tmp_path):
    train_command(expert_library, tmp_path / "again", console=Console(quiet=True))
    for file in (
        "manifest.json",
        "weights.npz",
        "pilots.npz",
        "pilots.json",
        "calibration.npz",
        "report.html",
    ):
        assert (tmp_path / "again" / file).read_bytes() == (trained / file).read_bytes()


def test_train_prints_its_metrics_and_puts_the_report_where_it_is_told(rows, write, tmp_path):
    printed = StringIO()
    console = Console(file=printed, width=120)
    out = tmp_path / "deep" / "artifact"
    reporting = Reporting(tmp_path / "r.html", {m: Price(1.0, 2.0) for m in ("coder", "lawyer")})
    router = train_command(write(rows), out, reporting=reporting, console=console)
    assert "best single" in printed.getvalue()
    assert router.version in printed.getvalue()
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert "USD per 1,000 prompts" in (tmp_path / "r.html").read_text()
    assert "AUDC" in printed.getvalue()
    assert not (out / "report.html").exists()


def test_data_without_an_evaluation_split_still_train(rows, write, tmp_path):
    path = write([r | {"split": "train"} for r in rows])
    train_command(path, tmp_path / "a", console=Console(quiet=True))
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["metrics"] == {}


def test_a_taken_folder_is_refused_before_training(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"notes\.txt"):
        train_command(tmp_path / "no.parquet", tmp_path, console=Console(quiet=True))


def test_bad_data_leave_nothing_behind(rows, write, tmp_path):
    rows[0]["score"] = 2.0
    path = write(rows)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="row 0"):
        train_command(path, tmp_path / "a", console=Console(quiet=True))
    assert sorted(tmp_path.iterdir()) == before


def test_an_unknown_kind_of_router_is_refused(rows, write, tmp_path):
    with pytest.raises(DataError, match="unknown router 'psychic'"):
        train_command(write(rows), tmp_path / "a", router="psychic")


def test_predict_writes_a_row_per_prompt_and_model(trained, expert_library, tmp_path):
    out = tmp_path / "p.parquet"
    assert predict_command(trained, expert_library, out) == 8400
    table = pq.read_table(out)
    assert table.column_names == [
        "prompt_id",
        "model",
        "predicted_quality",
        "predicted_output_tokens",
        "predicted_cost_usd",
    ]
    assert table["predicted_cost_usd"].null_count == 8400
    first = table.slice(0, 5)
    prompt_id = first["prompt_id"][0].as_py()
    prompts = pq.read_table(expert_library).to_pylist()
    prompt = next(r["prompt"] for r in prompts if r["prompt_id"] == prompt_id)
    expected = load_suite(trained).score(prompt)
    assert first["predicted_quality"].to_pylist() == expected.quality.tolist()
    assert first["model"].to_pylist() == list(expected.models)
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]


def test_evaluate_prints_json_and_writes_a_page(trained, expert_library, tmp_path, capsys):
    page = tmp_path / "r.html"
    evaluate_command(trained, expert_library, as_json=True, report=page, split="val")
    printed = json.loads(capsys.readouterr().out)
    assert printed["prompts"] == 600
    assert printed["loss_unit"] == "nats per token"
    assert "<svg" in page.read_text()


def test_an_unwritable_place_is_reported_as_such(trained, expert_library, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        predict_command(trained, expert_library, tmp_path / "file" / "p.parquet")
    with pytest.raises(ArtifactError, match="cannot be written"):
        train_command(expert_library, tmp_path / "file" / "a", console=Console(quiet=True))
