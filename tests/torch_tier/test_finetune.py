"""Fine-tuning: gradients reach the encoder, ONNX computes what torch does, a kill is no loss."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from router_models.artifact import load_suite
from router_models.commands import train_command
from router_models.encoders.blend import fit_blend
from router_models.perceptive.model import Head, PerceptiveRouter
from router_models.training.checkpoint import checkpoint_beside
from router_models.training.dataset import read_routing_data
from router_models.training.train import Loss, TrainingOptions
from router_models.types import DataError
from tests.unit.router_models.conftest import WORDS, Rows, outcome_rows, write_rows

if TYPE_CHECKING:
    from router_models.finetune.source import Source

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two narrow layers, never trained, whose vocabulary are the words of the test data."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "model"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(w for task in WORDS.values() for w in task)]
    known = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")  # noqa: S106
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def source(tiny: Path) -> Source:
    from router_models.finetune.source import read_source

    return read_source(str(tiny))


def test_onnx_computes_what_torch_does_at_any_length(source: Source) -> None:
    import torch

    from router_models.finetune.export import export

    texts = [" ".join(WORDS["code"][:n]) for n in range(1, 10)]
    model, cosine = export(source, texts)
    assert cosine > 0.99
    assert model.window == 64
    assert not any(module.training for module in source.body.modules())
    for text in (*texts, "python " * 500):
        ids = torch.tensor([model.tokens(text)])
        with torch.no_grad():
            hidden = source.body(input_ids=ids).last_hidden_state[0].mean(0).numpy()
        assert float(hidden @ model.embed(text)) / float(np.linalg.norm(hidden)) > 0.95


def order_rows() -> Rows:
    """Prompts of which only the order of two words says which model is right."""
    draw = np.random.default_rng(0)
    rows: Rows = []
    for number in range(200):
        pair = ["court", "python"] if number % 2 else ["python", "court"]
        filler = draw.choice(WORDS["law"][2:] + WORDS["code"][:5], 3).tolist()
        for model, right in (("coder", number % 2), ("lawyer", 1 - number % 2)):
            rows.append(
                {
                    "prompt_id": f"p{number}",
                    "source": "generated",
                    "task": "one",
                    "prompt": " ".join([*pair, *filler]),
                    "model": model,
                    "score": float(right),
                    "prompt_tokens": 5,
                    "completion_tokens": 10,
                    "split": "val" if number >= 160 else "train",
                }
            )
    return rows


@pytest.mark.parametrize("loss", ["squared", "ranking"])
def test_the_encoder_learns_with_the_heads(tiny: Path, tmp_path: Path, loss: Loss) -> None:
    data = write_rows(order_rows(), tmp_path / "d.parquet")
    held = read_routing_data(data).evaluation()
    encoder = f"sentence-transformers:{tiny}"
    files = []
    for steps in (0, 75):
        options = TrainingOptions(encoder=encoder, loss=loss, steps=steps)
        suite = train_command(data, tmp_path / "a", options=options, console=QUIET)
        picks = [int(suite.score(prompt).quality.argmax()) for prompt in held.prompts]
        assert held.scores[np.arange(len(picks)), picks].mean() >= 0.9
        files.append((tmp_path / "a" / "encoder.onnx").read_bytes())
    assert files[0] != files[1]
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["training"]["options"]["encoder"] == encoder
    again = load_suite(tmp_path / "a")
    for prompt in held.prompts[:5]:
        np.testing.assert_array_equal(again.score(prompt).quality, suite.score(prompt).quality)


def test_gradients_reach_all_but_the_word_vectors(source: Source) -> None:
    import torch

    from router_models.finetune.network import RoutingNetwork, collate

    draw = np.random.default_rng(0)
    start = PerceptiveRouter(
        version="",
        models=("a", "b"),
        tasks=("t", "u"),
        target="score",
        encoder=fit_blend(["x"], max_rows=1),
        table=draw.normal(size=(32 + 3, 6)).astype(np.float32),
        task_bias=np.zeros(2),
        outcome=Head(np.zeros(2), draw.normal(size=(2, 2))),
        error_low=np.zeros(2),
        error_high=np.zeros(2),
        log_tokens=Head(np.zeros(2), np.zeros((2, 2))),
    )
    network = RoutingNetwork(source.body, start, np.zeros(32, np.float32), first_token=False)
    rows = [
        ([2, 5, 6, 3], np.ones(3, np.float32), np.array([1.0, np.nan], np.float32), 0),
        ([2, 7, 3], np.zeros(3, np.float32), np.array([0.0, 1.0], np.float32), 1),
    ]
    network.eval()
    loss = network.loss(collate(rows), 0.5, ranks=True)
    loss.backward()
    assert torch.isfinite(loss)
    reached = {n for n, p in network.trainable().items() if p.grad is not None and p.grad.any()}
    assert any("attention" in name for name in reached)
    assert {"task_table", "outcome_table", "mean", "offsets"} <= reached
    assert not any("word_embeddings" in name for name in network.trainable())
    # Padding changes nothing: alone and beside a longer prompt it is read alike.
    with torch.no_grad():
        alone, beside = network(collate(rows[1:]))[1][0], network(collate(rows))[1][1]
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=1e-5)


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    data = write_rows(outcome_rows(30), tmp_path / "d.parquet")
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def run(out: Path, *, kill: bool) -> tuple[int, str]:
        command = [
            sys.executable,
            "-m",
            "gateway.cli",
            "train",
            "--data",
            data,
            "--out",
            out,
            "--steps",
            "100",
        ]
        command += ["--encoder", f"sentence-transformers:{tiny}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        with subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        ) as process:
            while kill and process.poll() is None:
                if (checkpoint_beside(out) / "finetune.npz").exists():
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.002)
            printed, failed = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), failed
        return process.returncode, printed

    assert run(whole, kill=False)[0] == 0
    assert run(killed, kill=True)[0] == -signal.SIGKILL
    status, printed = run(killed, kill=False)
    assert status == 0
    assert "finetune from step" in printed
    for path in whole.iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    data = write_rows(outcome_rows(), tmp_path / "d.parquet")
    (tmp_path / "empty").mkdir()
    options = TrainingOptions(encoder=f"sentence-transformers:{tmp_path / 'empty'}")
    with pytest.raises(DataError, match=r"sentence-transformers:.*empty"):
        train_command(data, tmp_path / "a", options=options, console=QUIET)
    assert not (tmp_path / "a").exists()


def test_what_serves_a_fine_tuned_router_imports_no_torch(tiny: Path, tmp_path: Path) -> None:
    data = write_rows(outcome_rows(), tmp_path / "d.parquet")
    options = TrainingOptions(encoder=f"sentence-transformers:{tiny}", steps=5)
    train_command(data, tmp_path / "a", options=options, console=QUIET)
    served = (
        "import sys, gateway.app\n"
        "from pathlib import Path\n"
        "from router_models.artifact import load_suite\n"
        f"print(load_suite(Path({str(tmp_path / 'a')!r})).score('python loop').quality)\n"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", served], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"
