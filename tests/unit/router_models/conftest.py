from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import router_models
from router_models.commands import train_command
from router_models.perceptive.model import PerceptiveRouter
from router_models.suite import RouterSuite

Rows = list[dict[str, object]]

WORDS = {
    "code": [
        "def",
        "return",
        "class",
        "import",
        "function",
        "list",
        "loop",
        "python",
        "string",
        "bug",
    ],
    "law": [
        "court",
        "contract",
        "plaintiff",
        "statute",
        "appeal",
        "judge",
        "liable",
        "clause",
        "tort",
        "evidence",
    ],
}


@pytest.fixture(scope="session")
def expert_library() -> Path:
    """The measured outcomes that ship with the package."""
    return Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"


@pytest.fixture(scope="session")
def trained(expert_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact trained on the shipped outcomes."""
    out = tmp_path_factory.mktemp("trained") / "artifact"
    train_command(expert_library, out, console=Console(quiet=True))
    return out


@pytest.fixture(scope="session")
def router(trained: Path) -> PerceptiveRouter:
    from router_models.artifact import load

    return load(trained)


@pytest.fixture(scope="session")
def suite(trained: Path) -> RouterSuite:
    from router_models.artifact import load_suite

    return load_suite(trained)


def outcome_rows(prompts_per_task: int = 20, seed: int = 0) -> Rows:
    """Two tasks with words of their own; in each another of two models is right nine times in ten."""
    draw = np.random.default_rng(seed)
    rows: Rows = []
    for task, words in WORDS.items():
        for number in range(prompts_per_task):
            prompt = " ".join(draw.choice(words, 8))
            for model in ("coder", "lawyer"):
                is_specialist = (model == "coder") == (task == "code")
                right = float(draw.random() < (0.9 if is_specialist else 0.2))
                rows.append(
                    {
                        "prompt_id": f"{task}-{number}",
                        "source": "generated",
                        "task": task,
                        "prompt": prompt,
                        "model": model,
                        "score": right,
                        "prompt_tokens": 8,
                        "completion_tokens": 40 if model == "coder" else 200,
                        "split": "train" if number % 4 else "val",
                    }
                )
    return rows


def write_rows(rows: Rows, path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def rows() -> Rows:
    return outcome_rows()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Rows], Path]:
    """Write rows to a parquet file of their own."""

    def write(rows: Rows) -> Path:
        return write_rows(rows, tmp_path / f"outcomes-{len(list(tmp_path.iterdir()))}.parquet")

    return write
