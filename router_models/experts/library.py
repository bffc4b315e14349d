"""The expert library on disk: one folder of adapters and the ``library.json`` that lists them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = "library.json"
BASE_MODEL = "smollm2-135m"


@dataclass(frozen=True, slots=True)
class Expert:
    """One adapter: the model name a client uses, its file and how it came to be."""

    model: str
    domain: str
    file: str
    sha256: str
    rank: int
    steps: int
    prompts: int
    seed: int


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_library(folder: Path, weights: Path, experts: Sequence[Expert]) -> None:
    """Write ``library.json`` for adapters that already lie in ``folder``."""
    document = {
        "base": {"model": BASE_MODEL, "weights_sha256": sha256_of(weights)},
        "experts": [asdict(e) for e in experts],
    }
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(partial, folder / MANIFEST)


def read_library(folder: Path) -> list[Expert]:
    """Read the experts of a folder. Raises FileNotFoundError when it has no ``library.json``."""
    document = json.loads((folder / MANIFEST).read_text())
    return [Expert(**entry) for entry in document["experts"]]
