"""Prompts with reference answers in several domains, and who may learn from which of them.

One prompt has one use: it trains an expert, or it trains the router, or it only reports.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

Use = Literal["experts", "router", "report"]

#: Share of the training prompts that train experts; the rest is for the router.
EXPERTS_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Example:
    prompt_id: str
    domain: str
    prompt: str
    reference: str
    use: Use


def use_of(prompt_id: str, split: str) -> Use:
    """Assign a prompt to its one use, from its id alone, so that every run agrees."""
    if split != "train":
        return "report"
    digest = hashlib.sha256(prompt_id.encode()).digest()
    return "experts" if int.from_bytes(digest[:8], "big") / 2**64 < EXPERTS_SHARE else "router"


def read_domains(path: Path) -> list[Example]:
    """Read ``prompt_id, domain, prompt, reference, split`` rows.

    Raises ValueError naming the missing column, or the row without a reference.
    """
    table = pq.read_table(path)
    for column in ("prompt_id", "domain", "prompt", "reference", "split"):
        if column not in table.column_names:
            raise ValueError(f"{path}: column {column!r} is missing")
    examples = []
    for number, row in enumerate(table.to_pylist()):
        if not row["prompt"] or not row["reference"]:
            raise ValueError(f"{path}: row {number} has an empty prompt or reference")
        use = use_of(row["prompt_id"], row["split"])
        examples.append(
            Example(row["prompt_id"], row["domain"], row["prompt"], row["reference"], use)
        )
    return examples


def choose(examples: list[Example], use: Use, domain: str, limit: int) -> list[Example]:
    """Return up to ``limit`` prompts of one use and domain, in an order fixed by their ids."""
    chosen = [e for e in examples if e.use == use and e.domain == domain]
    chosen.sort(key=lambda e: hashlib.sha256(b"order:" + e.prompt_id.encode()).digest())
    return chosen[:limit]
