"""`thalamus collect` before the embedded engine, which is llama.cpp."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.demo_process import THALAMUS, Demo


def test_an_engine_that_cannot_tell_likelihoods_gives_no_label_and_says_so(
    demo: Demo, tmp_path: Path
) -> None:
    question = {"prompt_id": "1", "prompt": "What is 3 + 4?", "reference": "7"}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(question) + "\n")
    models = [f"smollm2-135m{name}={demo.url}/v1" for name in ("", "-math")]
    done = subprocess.run(
        [
            THALAMUS, "collect", "--prompts", "prompts.jsonl", "--out", "labels.parquet",
            "--score", "loglik", "--backends", *models,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "there is no label to write" in done.stderr
    assert not (tmp_path / "labels.parquet").exists()
    journal = (tmp_path / "labels.parquet.answers.jsonl").read_text().splitlines()
    errors = [json.loads(line)["error"] for line in journal[1:]]
    assert len(errors) == 2
    assert all("shows no log-probabilities of a prompt" in error for error in errors)
