"""What the eleven-expert library is made of, beside its losses: sizes and recorded answers.

Written by ``grow``, read by ``experiment``; needs no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from router_models.types import DataError


@dataclass(frozen=True, slots=True)
class Member:
    """One model. ``size_mb`` is what it takes to serve it alone: the base's kept tensors as the GGUF
    file holds them, and its adapter's file. ``domains`` is empty for the base model."""

    model: str
    domains: tuple[str, ...]
    layers: int
    rank: int
    steps: int
    size_mb: float


@dataclass(frozen=True, slots=True)
class Library:
    """Members in the order of their names, and what was recorded on the report prompts by their id.

    ``average_losses`` are those of the base model with the mean of the ``averaged`` adapters;
    ``chosen`` is the model that the base model names when it is asked which fits the prompt.
    """

    members: tuple[Member, ...]
    averaged: tuple[str, ...]
    average_losses: Mapping[str, float]
    chosen: Mapping[str, str]


def read_members(path: Path) -> Library:
    """Read what write_members wrote. Raises DataError when the file is missing or has other fields."""
    try:
        document = json.loads(path.read_text())
        members = [Member(**(m | {"domains": tuple(m["domains"])})) for m in document["members"]]
        return Library(
            tuple(members),
            tuple(document["averaged"]),
            document["average_losses"],
            document["chosen"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no library of experts: {error}") from error


def write_members(path: Path, library: Library) -> None:
    """Write a library; the file appears whole or not at all."""
    document = asdict(library)
    for field in ("average_losses", "chosen"):
        document[field] = dict(sorted(document[field].items()))
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(partial, path)
