"""``python -m router_models.experts``: train the experts, measure their losses, record references."""

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
from router_models.experts.library import BASE_MODEL, Expert, read_library, sha256_of, write_library
from router_models.experts.measure import applied, reference_losses
from router_models.experts.train import Recipe, train_expert
from router_models.experts.weights import find_weights

DOMAINS = ("code", "math", "clinical", "patents")
GOLDEN_PROMPTS_PER_DOMAIN = 2
GOLDEN_TOP = 5


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m router_models.experts", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    commands = parser.add_subparsers(required=True)

    train = commands.add_parser("train", help="train one LoRA adapter a domain")
    train.add_argument("--data", type=Path, required=True, help="domains parquet")
    train.add_argument("--out", type=Path, required=True, help="folder of the library")
    train.add_argument("--steps", type=int, default=Recipe().steps)
    train.set_defaults(run=_train)

    measure = commands.add_parser("measure", help="measure every expert's loss on unseen prompts")
    measure.add_argument("--data", type=Path, required=True, help="domains parquet")
    measure.add_argument("--library", type=Path, required=True)
    measure.add_argument("--out", type=Path, required=True, help="routing data parquet")
    measure.add_argument("--router-prompts", type=int, default=270, help="a domain, for training")
    measure.add_argument("--report-prompts", type=int, default=150, help="a domain, for reporting")
    measure.set_defaults(run=_measure)

    golden = commands.add_parser("golden", help="record torch's next-token log-probabilities")
    golden.add_argument("--data", type=Path, required=True, help="domains parquet")
    golden.add_argument("--library", type=Path, required=True)
    golden.add_argument("--out", type=Path, required=True, help="JSON file")
    golden.set_defaults(run=_golden)

    args = parser.parse_args(argv)
    args.run(args)
    return 0


def _train(args: argparse.Namespace) -> None:
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


def _measure(args: argparse.Namespace) -> None:
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
def _golden(args: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
