"""``python -m router_models.experts``: train and measure the experts, and repeat Tryage's experiment.

All but ``ask`` and ``experiment`` need the ``train`` extra.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import router_models
from router_models.experts.variants import STEPS
from router_models.types import DataError

DATASETS = Path(router_models.__file__).parent / "datasets"
OUTCOMES = DATASETS / "eleven_experts.parquet"
MEMBERS = DATASETS / "eleven_experts.json"
FIGURE = Path("docs/images/tryage.svg")
PAGE = Path("docs/routers.md")
_BEGIN, _END = "<!-- tryage: begin -->\n", "<!-- tryage: end -->"


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except DataError as error:
        print(f"experts: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m router_models.experts", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    commands = parser.add_subparsers(required=True)

    train = _torch_command(commands, "train", "train one LoRA adapter a domain")
    train.add_argument("--out", type=Path, required=True, help="folder of the library")
    train.add_argument("--steps", type=int, default=STEPS)

    measure = _torch_command(commands, "measure", "measure every expert's loss on unseen prompts")
    measure.add_argument("--library", type=Path, required=True)
    measure.add_argument("--out", type=Path, required=True, help="routing data parquet")
    measure.add_argument("--router-prompts", type=int, default=270, help="a domain, for training")
    measure.add_argument("--report-prompts", type=int, default=150, help="a domain, for reporting")

    golden = _torch_command(commands, "golden", "record torch's next-token log-probabilities")
    golden.add_argument("--library", type=Path, required=True)
    golden.add_argument("--out", type=Path, required=True, help="JSON file")

    grow = _torch_command(commands, "grow_library", "train and measure the eleven experts")
    grow.add_argument("--library", type=Path, required=True, help="folder of the shipped experts")
    grow.add_argument("--measured", type=Path, required=True, help="their measured losses")
    grow.add_argument("--work", type=Path, required=True, help="what is done is kept here")
    grow.add_argument("--out", type=Path, default=DATASETS)

    ask = commands.add_parser("ask", help="ask the language model which expert fits each prompt")
    ask.set_defaults(run=_ask)

    experiment = commands.add_parser("experiment", help="Tryage's experiment: table and figure")
    experiment.add_argument("--router", default="perceptive")
    experiment.add_argument("--figure", type=Path, default=FIGURE)
    experiment.add_argument("--page", type=Path, default=PAGE, help="Markdown that holds the table")
    experiment.set_defaults(run=_experiment)
    return parser


def _torch_command(commands: Any, name: str, purpose: str) -> argparse.ArgumentParser:
    def run(args: argparse.Namespace) -> None:
        from router_models.experts import torch_commands

        getattr(torch_commands, name)(args)

    parser: argparse.ArgumentParser = commands.add_parser(name.split("_")[0], help=purpose)
    parser.add_argument("--data", type=Path, required=True, help="domains parquet")
    parser.set_defaults(run=run)
    return parser


def _ask(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from router_models.experts.chooser import choose_by_asking
    from router_models.experts.members import read_members, write_members
    from router_models.experts.weights import find_weights
    from router_models.training.dataset import read_routing_data

    library, held_out = read_members(MEMBERS), read_routing_data(OUTCOMES).evaluation()
    chosen = choose_by_asking(
        find_weights(),
        library.members,
        held_out.prompts,
        args.threads,
        lambda done: print(f"\r{done}/{len(held_out.prompts)}", end="", file=sys.stderr),
    )
    answers = dict(zip(held_out.prompt_ids, chosen, strict=True))
    write_members(MEMBERS, replace(library, chosen=answers))


def _experiment(args: argparse.Namespace) -> None:
    from router_models.experts.experiment import run_experiment
    from router_models.experts.figure import draw_figure, write_table

    experiment = run_experiment(OUTCOMES, MEMBERS, router=args.router)
    table = write_table(experiment)
    print(table, end="")
    args.figure.parent.mkdir(parents=True, exist_ok=True)
    args.figure.write_text(draw_figure(experiment))
    _insert(args.page, table)


def _insert(page: Path, table: str) -> None:
    """Replace what stands between the two marks of the page."""
    text = page.read_text() if page.exists() else ""
    if _BEGIN not in text or _END not in text:
        raise DataError(f"{page}: the marks {_BEGIN.strip()} and {_END} are missing; add them")
    head, rest = text.split(_BEGIN, 1)
    page.write_text(f"{head}{_BEGIN}{table}{_END}{rest.split(_END, 1)[1]}")


if __name__ == "__main__":
    sys.exit(main())
