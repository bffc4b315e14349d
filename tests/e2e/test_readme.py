"""README says what is so: its commands run as printed, and print what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.demo_process import THALAMUS, Demo

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def run(words: list[str | Path], **more: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "160", **more}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_first_request_is_answered_with_the_headers_that_are_shown(demo: Demo) -> None:
    (command,) = blocks("sh")
    assert ADDRESS in command
    said = run(["bash", "-c", command.replace("curl ", "curl -sfi ").replace(ADDRESS, demo.url)])
    shown = next(block for block in blocks("") if block.startswith("x-routing-model"))
    for line in shown.splitlines()[:3]:
        assert line in said
    names = re.findall(r"(?:, |^x-routing)(-[a-z-]+)", shown.splitlines()[-1])
    assert len(names) == 7
    for name in [*names[:-2], "-predicted-cost-usd"]:
        assert f"x-routing{name}:" in said


def test_the_sdk_example_runs(demo: Demo) -> None:
    (program,) = blocks("python")
    said = run([sys.executable, "-c", program.replace(ADDRESS, demo.url)])
    assert said.startswith("smollm2-135m-")


def test_the_configuration_is_one_that_can_be_served(tmp_path: Path) -> None:
    (document,) = blocks("yaml")
    path = tmp_path / "thalamus.yaml"
    path.write_text(document)
    assert '"***' in run([THALAMUS, "check-config", path], VLLM_KEY="x")


def test_the_decision_is_shown_without_a_call() -> None:
    (command,) = re.findall(r"^\$ \.venv/bin/thalamus route (.*)$", README, re.MULTILINE)
    said = run([THALAMUS, "route", command.strip('"')])
    assert "quality" in said
    assert "chosen" in said
    assert "cost" in said


@pytest.mark.timeout(240)
def test_the_table_is_what_evaluate_prints() -> None:
    said = run([THALAMUS, "evaluate", "--data", "router_models/datasets/expert_library.parquet"])
    printed = {
        "**router**": "router",
        "random": "random",
        "best single (`smollm2-135m-code`)": "best single",
        "oracle, a prompt at a time": "prompt oracle",
    }
    rows = {
        cells[0]: cells
        for cells in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|", README, re.M)
    }
    for row, name in printed.items():
        (line,) = re.findall(
            rf"^\s*{name}\s+([\d.]+)\s+([\d.]+)\s+(-?[\d.]+) .*?\s([\d.]+)% ", said, re.M
        )
        _, loss, below, optimal = line
        _, told_loss, told_below, told_optimal = rows[row]
        assert float(told_loss.strip("*")) == pytest.approx(float(loss), abs=6e-4)
        assert float(told_below.split()[0].replace("−", "-")) == pytest.approx(
            float(below), abs=6e-4
        )
        assert float(told_optimal.split()[0]) == pytest.approx(float(optimal), abs=0.06)


def test_the_console_is_where_it_is_said_to_be(demo: Demo) -> None:
    assert f"{ADDRESS}/console/" in README
    assert httpx2.get(f"{demo.url}/console/", trust_env=False).status_code == 200
