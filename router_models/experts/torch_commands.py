"""Train the experts, measure their losses, record references: what needs the ``train`` extra."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from router_models.experts.base_model import BaseModel, load_base
from router_models.experts.domains import Example, Use, choose, read_domains
from router_models.experts.gguf_adapter import Adapter, read_adapter, write_adapter
from router_models.experts.grow import grow, write_outcomes
from router_models.experts.library import BASE_MODEL, Expert, read_library, sha256_of, write_library
from router_models.experts.measure import applied, reference_losses
from router_models.experts.train import Recipe, train_expert
from router_models.experts.variants import DOMAINS
from router_models.experts.weights import find_weights

GOLDEN_PROMPTS_PER_DOMAIN = 2
GOLDEN_TOP = 5


def train(args: argparse.Namespace) -> None:
    examples = read_domains(args.data)
    base = load_base(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    experts = []
    for domain in DOMAINS:
        recipe = Recipe(steps=args.steps)
        prompts = choose(examples, "experts", domain, len(examples))
        with _progress(domain, args.steps) as bar:

            def report(step: int, loss: float, bar: tqdm = bar) -> None:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update(step - bar.n)

            adapter = train_expert(base, prompts, recipe, report)
        path = args.out / f"{domain}.gguf"
        name = f"{BASE_MODEL}-{domain}"
        write_adapter(path, adapter, heads=base.model.config.num_attention_heads, name=name)
        experts.append(
            Expert(
                name,
                domain,
                path.name,
                sha256_of(path),
                recipe.rank,
                recipe.steps,
                len(prompts),
                recipe.seed,
            )
        )
        write_library(args.out, find_weights(), experts)


def measure(args: argparse.Namespace) -> None:
    examples = read_domains(args.data)
    limits: dict[Use, int] = {"router": args.router_prompts, "report": args.report_prompts}
    measured = [
        example
        for domain in DOMAINS
        for use, limit in limits.items()
        for example in choose(examples, use, domain, limit)
    ]
    base = load_base(args.threads)
    encoded = [base.encode(e.prompt, e.reference) for e in measured]
    rows = []
    for model, adapter in _models(base, args.library):
        with _progress(model, len(encoded)) as bar:
            losses = reference_losses(base, adapter, encoded, lambda n, b=bar: b.update(n - b.n))
        for example, tokens, loss in zip(measured, encoded, losses, strict=True):
            rows.append(_row(example, model, loss, tokens.start, tokens.end - tokens.start))
    table = pa.Table.from_pylist(rows).sort_by([("prompt_id", "ascending"), ("model", "ascending")])
    partial = args.out.with_suffix(".partial")
    pq.write_table(table, partial, compression="zstd", compression_level=19)
    partial.replace(args.out)


def grow_library(args: argparse.Namespace) -> None:
    """Train and measure what is missing of the eleven experts; then write their data and sizes."""
    with tqdm(file=sys.stderr, mininterval=5) as bar:

        def report(what: str, done: int, total: int, loss: float) -> None:
            bar.set_description(what, refresh=False)
            bar.total = total
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(done - bar.n)

        grow(args.data, args.library, args.work, args.threads, report)
    write_outcomes(args.data, args.library, args.measured, args.work, args.out)


def _row(
    example: Example, model: str, loss: float, prompt: int, completion: int
) -> dict[str, object]:
    return {
        "prompt_id": example.prompt_id,
        "source": "domains",
        "task": example.domain,
        "prompt": example.prompt,
        "model": model,
        # The geometric mean of the reference tokens' probabilities: loss on the [0, 1] scale.
        "score": float(torch.exp(torch.tensor(-loss, dtype=torch.float64))),
        "loss": loss,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "split": "train" if example.use == "router" else "val",
    }


@torch.inference_mode()
def golden(args: argparse.Namespace) -> None:
    """Record, in float32, the most likely first answer tokens of each model on a few prompts."""
    examples = read_domains(args.data)
    base = load_base(args.threads)
    cases = []
    for model, adapter in _models(base, args.library):
        with applied(base, adapter):
            for domain in DOMAINS:
                for example in choose(examples, "report", domain, GOLDEN_PROMPTS_PER_DOMAIN):
                    e = base.encode(example.prompt, example.reference)
                    logits = base.model(torch.tensor([e.token_ids[: e.start]])).logits[0, -1]
                    top = torch.log_softmax(logits, -1).topk(GOLDEN_TOP)
                    cases.append(
                        {
                            "model": model,
                            "prompt": example.prompt,
                            "token_ids": top.indices.tolist(),
                            "logprobs": [round(v, 5) for v in top.values.tolist()],
                        }
                    )
    args.out.write_text(json.dumps(cases, indent=1) + "\n")


def _models(base: BaseModel, library: Path) -> Iterator[tuple[str, Adapter | None]]:
    yield BASE_MODEL, None
    heads = base.model.config.num_attention_heads
    for expert in read_library(library):
        yield expert.model, read_adapter(library / expert.file, heads=heads)


@contextmanager
def _progress(label: str, total: int) -> Iterator[tqdm]:
    with tqdm(total=total, desc=label, file=sys.stderr, mininterval=5) as bar:
        yield bar
