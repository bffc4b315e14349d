import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from router_models.artifact import DEFAULT, load, resolve, save
from router_models.types import ArtifactError

PROMPTS = ["def f(x):", "How many apples?", "", "The patient was given aspirin."]


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def edit(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def edit_weights(folder, **changes):
    """Replace arrays and sign them, as somebody with bad intent would."""
    with np.load(folder / "weights.npz") as archive:
        arrays = dict(archive) | changes
    np.savez(folder / "weights.npz", **{k: v for k, v in arrays.items() if v is not None})
    digest = hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()
    edit(folder, files={"weights.npz": digest})


def test_saving_changes_no_prediction(router, tmp_path):
    saved = save(router, tmp_path / "a", training={}, metrics={})
    for prompt in PROMPTS:
        np.testing.assert_array_equal(saved.score(prompt).quality, router.score(prompt).quality)
        np.testing.assert_array_equal(
            saved.score(prompt).output_tokens, router.score(prompt).output_tokens
        )


def test_saving_twice_gives_the_same_bytes(router, tmp_path):
    for name in ("a", "b"):
        save(router, tmp_path / name, training={"seed": 1}, metrics={})
    for file in ("manifest.json", "weights.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_version_follows_the_content(router, tmp_path):
    first = save(router, tmp_path / "a", training={}, metrics={})
    second = save(
        replace(router, error_low=router.error_low - 1), tmp_path / "b", training={}, metrics={}
    )
    assert first.version == load(tmp_path / "a").version
    assert first.version != second.version


def test_an_artifact_is_replaced_and_nothing_else_remains(router, tmp_path):
    save(router, tmp_path / "a", training={"seed": 1}, metrics={}, report="<p>old</p>")
    save(router, tmp_path / "a", training={"seed": 2}, metrics={})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["manifest.json", "weights.npz"]


def test_an_empty_folder_is_taken(router, tmp_path):
    (tmp_path / "a").mkdir()
    assert save(router, tmp_path / "a", training={}, metrics={}).models == router.models


@pytest.mark.parametrize("name", ["notes.txt", "weights.npz"])
def test_a_folder_with_other_things_is_left_alone(router, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ArtifactError, match=name):
        save(router, tmp_path, training={}, metrics={})
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_artifact_with_notes_in_it_is_left_alone(router, copy):
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds 'notes.txt'"):
        save(router, copy, training={}, metrics={})
    assert (copy / "notes.txt").read_text() == "mine"


def test_what_cannot_be_written_leaves_nothing(router, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save(router, tmp_path / "a", training={"x": float("nan")}, metrics={})
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(router, tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ArtifactError, match="is a file"):
        save(router, tmp_path / "a", training={}, metrics={})


def test_missing_files_are_named(copy, tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere: is no folder; a router artifact is one"):
        load(tmp_path / "nowhere")
    (copy / "weights.npz").unlink()
    with pytest.raises(ArtifactError, match=r"weights.npz: No such file"):
        load(copy)


def test_one_changed_byte_is_noticed(copy):
    content = bytearray((copy / "weights.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "weights.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"weights.npz: its SHA-256"):
        load(copy)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"kind": "oracle"}, "has kind 'oracle'"),
        ({"target": "vibes"}, "unknown target 'vibes'"),
        ({"models": []}, "there are no models"),
        ({"models": ["a", "a", "b", "c", "d"]}, "different names"),
        ({"models": ["a", "b"]}, "'table' has shape"),
        ({"tasks": "code"}, "different names"),
        ({"encoder": {"kind": "dense"}}, "unknown encoder 'dense'"),
        ({"encoder": {"kind": "lexical", "buckets": 2**40, "unknown_idf": 1}}, "buckets are more"),
        (
            {"encoder": {"kind": "lexical", "buckets": 2**4, "unknown_idf": 1}},
            "bucket is not below",
        ),
        ({"encoder": {"kind": "lexical"}}, "buckets"),
        ({"encoder": None}, "TypeError"),
        ({"files": {}}, "SHA-256"),
        ({"files": []}, "SHA-256"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_reason(copy, changes, reason):
    edit(copy, **changes)
    with pytest.raises(ArtifactError, match=reason):
        load(copy)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "[" * 100_000])
def test_what_is_no_manifest_is_refused(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest.json: "):
        load(copy)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("outcome_mean", np.full(5, np.nan), "'outcome_mean' holds a value that is not finite"),
        ("outcome_mean", np.zeros(4), r"'outcome_mean' is float64\(4,\)"),
        ("outcome_mean", np.zeros(5, np.float32), "'outcome_mean' is float32"),
        ("outcome_mean", np.array(["x"] * 5), "'outcome_mean' has dtype"),
        ("outcome_mean", np.array([{}] * 5, object), "cannot be read"),
        ("table", np.zeros((3, 9), np.float16), "'table' has shape"),
        ("table", np.zeros(3, np.float16), "'table' has shape"),
        ("known", np.zeros(3, np.int64), "dtype int64"),
        ("idf", np.zeros(3, np.float32), "idf weights"),
        ("error_low", None, "error_low"),
    ],
)
def test_wrong_weights_are_refused_even_when_signed(copy, name, array, reason):
    edit_weights(copy, **{name: array})
    with pytest.raises(ArtifactError, match=reason):
        load(copy)


def test_default_is_the_shipped_artifact(tmp_path):
    assert resolve("default") == DEFAULT
    assert resolve(str(tmp_path)) == tmp_path
    assert load(DEFAULT).models[0] == "smollm2-135m"


def test_the_shipped_artifact_was_trained_on_the_shipped_outcomes(expert_library):
    manifest = json.loads((DEFAULT / "manifest.json").read_text())
    digest = hashlib.sha256(expert_library.read_bytes()).hexdigest()
    assert manifest["training"]["data_sha256"] == digest
