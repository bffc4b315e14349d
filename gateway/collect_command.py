"""``thalamus collect``: prompts in, training data out."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.clock import SystemClock
from gateway.collecting.asking import Asker
from gateway.collecting.collect import Collection, Setting
from gateway.collecting.journal import Journal, Run
from gateway.collecting.matching import RULES
from gateway.collecting.prompts import Prompt, digest, read_collection
from gateway.collecting.scores import Row, Rule, rows, write_rows
from gateway.config import load_config, parse_config
from gateway.decision.catalog import Catalog
from gateway.errors import ConfigError
from gateway.settings import Config
from router_models.files import replace_file
from router_models.types import DataError


def add_collect(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    collect = subcommands.add_parser(
        "collect", help="run prompts on all backends and score the answers into training data"
    )
    collect.add_argument(
        "--prompts", type=Path, required=True,
        help="Parquet, JSON lines or CSV: prompt_id, prompt; optional task, reference, split",
    )  # fmt: skip
    collect.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    where = collect.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", type=Path, help="configuration whose models are asked")
    where.add_argument(
        "--backends", nargs="+", metavar="MODEL=URL", help="models and where they are served"
    )
    collect.add_argument("--models", nargs="+", metavar="MODEL", help="only these are asked")
    collect.add_argument(
        "--score",
        choices=("reference", "loglik", "judge"),
        required=True,
        help="by a match with the reference, by its likelihood, or by a model that compares",
    )
    collect.add_argument(
        "--match", choices=tuple(RULES), default="normalised", help="how a reference is matched"
    )
    collect.add_argument("--judge", metavar="MODEL", help="who compares answers, for --score judge")
    collect.add_argument("--baseline", metavar="MODEL", help="whose answers are compared with")
    collect.add_argument(
        "--answers", type=Path, help="journal of all answers; OUT.answers.jsonl by default"
    )
    collect.add_argument(
        "--rescore", action="store_true", help="ask no model again: score what was answered"
    )
    collect.add_argument(
        "--concurrency", type=_positive, default=8, metavar="N", help="questions at once"
    )
    collect.add_argument(
        "--max-tokens", type=_positive, default=1024, metavar="N", help="of an answer, at most"
    )
    collect.add_argument("--temperature", type=float, default=0.0, help="0 by default")
    collect.add_argument(
        "--held-out", type=float, default=0.2, metavar="SHARE",
        help="prompts not to train on, where the file has no split",
    )  # fmt: skip
    collect.set_defaults(run=lambda a: collect_command(a))


def collect_command(args: argparse.Namespace) -> None:
    """Ask, score and write. Raises ConfigError, or DataError naming file and row.

    A run that was stopped goes on where it was; errors of single questions are missing labels.
    """
    config = _config(args)
    rule = _rule(args, config)
    prompts = read_collection(args.prompts, args.held_out)
    if rule.scoring != "judge" and not any(prompt.references for prompt in prompts):
        raise DataError(f"{args.prompts}: --score {rule.scoring} needs a column 'reference'")
    models = _models(args, config)
    path = args.answers or args.out.with_name(f"{args.out.name}.answers.jsonl")
    if args.rescore and not path.exists():
        raise DataError(f"{path}: there are no answers to score again")
    run = Run(
        prompts_sha256=digest(prompts), max_tokens=args.max_tokens, temperature=args.temperature
    )
    journal = Journal(path, None if args.rescore else run)
    try:
        asyncio.run(_collect(args, config, prompts, models, journal, rule))
        found = list(rows(journal, prompts, models, rule))
        _print_summary(found, prompts, models, journal)
    finally:
        journal.close()
    if not found:
        raise DataError(f"there is no label to write; see the errors in {path}")
    replace_file(args.out, write_rows(found))
    print(f"{len(found)} labels are in {args.out}, the answers in {path}.", file=sys.stderr)


async def _collect(
    args: argparse.Namespace,
    config: Config,
    prompts: Sequence[Prompt],
    models: Sequence[str],
    journal: Journal,
    rule: Rule,
) -> None:
    catalog = Catalog(config, SystemClock())
    setting = Setting(args.max_tokens, args.temperature, args.concurrency)
    asked = {name: catalog.models[name] for name in models}
    collection = Collection(prompts, asked, journal, Asker(config.timeouts), setting)
    columns = (
        TextColumn("{task.description:>11}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True)) as bar:
            steps: dict[str, Any] = {}

            def progress(stage: str, done: int, total: int) -> None:
                if stage not in steps:
                    steps[stage] = bar.add_task(stage, total=total)
                bar.update(steps[stage], completed=done)

            if not args.rescore:
                await collection.ask_all(rule, progress)
            if rule.judge is not None and rule.baseline is not None:
                await collection.judge_all(catalog.models[rule.judge], rule.baseline, progress)
    finally:
        await catalog.close()


def _config(args: argparse.Namespace) -> Config:
    if args.config is not None:
        return load_config(args.config)
    models: dict[str, Any] = {}
    for entry in args.backends:
        name, sign, url = entry.partition("=")
        if not sign or not name or not url:
            raise ConfigError(f"--backends: write MODEL=URL, not {entry[:80]}")
        models.setdefault(name, {"backends": []})["backends"].append({"url": url})
    return parse_config({"router": {"artifact": "none"}, "models": models}, "--backends")


def _models(args: argparse.Namespace, config: Config) -> list[str]:
    """Who is asked: a judge that is not named among them only judges."""
    named = args.models or [name for name in config.models if name != args.judge]
    for name in named:
        _check_known(name, "--models", config)
    if args.baseline is not None and args.baseline not in named:
        raise ConfigError(f"--baseline: {args.baseline} is not among the models that are asked")
    return list(named)


def _rule(args: argparse.Namespace, config: Config) -> Rule:
    if args.score != "judge":
        return Rule(args.score, args.match)
    if args.judge is None or args.baseline is None:
        raise ConfigError("--score judge needs --judge MODEL and --baseline MODEL")
    _check_known(args.judge, "--judge", config)
    _check_known(args.baseline, "--baseline", config)
    return Rule("judge", args.match, args.judge, args.baseline)


def _check_known(name: str, option: str, config: Config) -> None:
    if name not in config.models:
        raise ConfigError(f"{option}: no model {name!r}; there is {', '.join(config.models)}")


def _print_summary(
    found: Sequence[Row], prompts: Sequence[Prompt], models: Sequence[str], journal: Journal
) -> None:
    table = Table(title="Labels", title_justify="left")
    for heading in ("model", "labels", "missing", "mean score", "most frequent error"):
        table.add_column(heading, justify="left" if "mo" in heading[:2] else "right")
    for model in models:
        scores = [row.score for row in found if row.model == model]
        errors = Counter(
            error
            for (_, _, name), line in journal.lines.items()
            if name == model and (error := getattr(line, "error", None)) is not None
        )
        table.add_row(
            model,
            str(len(scores)),
            str(len(prompts) - len(scores)),
            f"{np.mean(scores):.4f}" if scores else "–",
            errors.most_common(1)[0][0] if errors else "–",
        )
    Console(stderr=True).print(table)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
