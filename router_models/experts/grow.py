"""Train and measure the larger library, one member after the other; what is done is not redone.

Every member leaves two files in the work folder: ``NAME.gguf`` and ``NAME.losses.json``. A killed
run goes on with the member it was at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from router_models.experts.base_model import BaseModel, Encoded, load_base, shortened
from router_models.experts.domains import Example, Use, choose, read_domains
from router_models.experts.gguf_adapter import Adapter, LoraPair, read_adapter, write_adapter
from router_models.experts.library import BASE_MODEL, read_library
from router_models.experts.measure import reference_losses
from router_models.experts.members import Library, Member, read_members, write_members
from router_models.experts.train import Recipe, train_expert
from router_models.experts.variants import BATCH, DOMAINS, LAYERS, VARIANTS, Variant, megabytes
from router_models.experts.weights import find_weights

#: Prompts a domain on which the members are measured: to train the router, and to report.
PROMPTS: dict[Use, int] = {"router": 110, "report": 100}
AVERAGE = "average-of-adapters"

Report = Callable[[str, int, int, float], None]


def grow(data: Path, shipped: Path, work: Path, threads: int, report: Report) -> None:
    """Train every variant that has no adapter yet and measure every one that has no losses yet."""
    examples = read_domains(data)
    work.mkdir(parents=True, exist_ok=True)
    base = load_base(threads)
    measured = measured_prompts(examples)
    encoded = [base.encode(e.prompt, e.reference) for e in measured]
    for variant in VARIANTS:
        with _kept(base, variant.layers):
            adapter = _trained(base, examples, variant, work, report)
            losses = work / f"{variant.model}.losses.json"
            _measure(base, adapter, measured, encoded, losses, report)
    heads = base.model.config.num_attention_heads
    whole = [read_adapter(shipped / e.file, heads=heads) for e in read_library(shipped)]
    whole += [
        read_adapter(work / f"{v.model}.gguf", heads=heads)
        for v in VARIANTS
        if len(v.layers) == base.model.config.num_hidden_layers
    ]
    reporting = [i for i, e in enumerate(measured) if e.use == "report"]
    _measure(
        base,
        average(whole),
        [measured[i] for i in reporting],
        [encoded[i] for i in reporting],
        work / f"{AVERAGE}.losses.json",
        report,
    )


def measured_prompts(examples: Sequence[Example]) -> list[Example]:
    """The prompts that every member is measured on: disjoint from those that trained experts."""
    return [
        example
        for domain in DOMAINS
        for use, limit in PROMPTS.items()
        for example in choose(list(examples), use, domain, limit)
    ]


def average(adapters: Sequence[Adapter]) -> Adapter:
    """The uniform mean of the updates of several adapters of one shape, as one adapter."""
    pairs = {}
    for key in adapters[0].pairs:
        a = np.vstack([adapter.pairs[key].a for adapter in adapters])
        scaled = [x.pairs[key].b * (x.alpha / x.rank / len(adapters)) for x in adapters]
        pairs[key] = LoraPair(a, np.hstack(scaled).astype(np.float32))
    return Adapter(float(sum(adapter.rank for adapter in adapters)), pairs)


def write_outcomes(data: Path, shipped: Path, measured: Path, work: Path, out: Path) -> None:
    """Join the shipped experts' recorded losses with the new members' into data for a router.

    Writes ``eleven_experts.parquet`` and ``eleven_experts.json`` to ``out``; answers of the language
    model that the latter already holds stay.
    """
    prompts = {e.prompt_id for e in measured_prompts(read_domains(data))}
    rows = [r for r in pq.read_table(measured).to_pylist() if r["prompt_id"] in prompts]
    shapes = {r["prompt_id"]: r for r in rows}
    for variant in VARIANTS:
        losses = _read_losses(work, variant.model)
        for prompt_id, shape in shapes.items():
            loss = losses[prompt_id]
            score = float(np.exp(-loss))
            rows.append(shape | {"model": variant.model, "loss": loss, "score": score})
    table = pa.Table.from_pylist(rows).sort_by([("prompt_id", "ascending"), ("model", "ascending")])
    partial = out / "eleven_experts.partial"
    pq.write_table(table, partial, compression="zstd", compression_level=19)
    partial.replace(out / "eleven_experts.parquet")
    experts, weights = read_library(shipped), find_weights()
    members = [Member(BASE_MODEL, (), LAYERS, 0, 0, megabytes(weights, tuple(range(LAYERS)), None))]
    for e in experts:
        size = megabytes(weights, tuple(range(LAYERS)), shipped / e.file)
        members.append(Member(e.model, (e.domain,), LAYERS, e.rank, e.steps, size))
    for v in VARIANTS:
        size = megabytes(weights, v.layers, work / f"{v.model}.gguf")
        members.append(Member(v.model, v.domains, len(v.layers), v.rank, v.steps, size))
    path = out / "eleven_experts.json"
    library = Library(
        members=tuple(sorted(members, key=lambda m: m.model)),
        averaged=tuple(m.model for m in members if m.domains and m.layers == LAYERS),
        average_losses=_read_losses(work, AVERAGE),
        chosen=read_members(path).chosen if path.exists() else {},
    )
    write_members(path, library)


def _read_losses(work: Path, name: str) -> dict[str, float]:
    losses: dict[str, float] = json.loads((work / f"{name}.losses.json").read_text())
    return losses


def _kept(base: BaseModel, layers: Sequence[int]) -> AbstractContextManager[None]:
    if len(layers) == base.model.config.num_hidden_layers:
        return nullcontext()
    return shortened(base, layers)


def _trained(
    base: BaseModel, examples: list[Example], variant: Variant, work: Path, report: Report
) -> Adapter:
    path = work / f"{variant.model}.gguf"
    heads = base.model.config.num_attention_heads
    if not path.exists():
        prompts = [
            e for d in variant.domains for e in choose(examples, "experts", d, len(examples))
        ]
        recipe = Recipe(
            steps=variant.steps, batch=BATCH, rank=variant.rank, alpha=2.0 * variant.rank
        )
        adapter = train_expert(
            base,
            prompts,
            recipe,
            lambda step, loss: report(f"train {variant.model}", step, variant.steps, loss),
        )
        write_adapter(path, adapter, heads=heads, name=variant.model)
    return read_adapter(path, heads=heads)


def _measure(
    base: BaseModel,
    adapter: Adapter,
    examples: Sequence[Example],
    encoded: Sequence[Encoded],
    path: Path,
    report: Report,
) -> None:
    if path.exists():
        return
    losses = reference_losses(
        base, adapter, encoded, lambda n: report(f"measure {path.stem}", n, len(encoded), 0.0)
    )
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({e.prompt_id: v for e, v in zip(examples, losses, strict=True)}))
    os.replace(partial, path)
