"""The ``thalamus`` command. Each sub-command parses its words here and does its work elsewhere."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

import gateway
from gateway import commands, key_commands
from gateway.bench.command import bench_command
from gateway.collect_command import add_collect
from gateway.completion import SHELLS, completion
from gateway.errors import GatewayError
from gateway.learning_commands import add_learn
from gateway.ledger.usage_report import GROUPS
from gateway.manual import document
from gateway.manual_pages import PAGES
from gateway.tenancy.limits import PRIORITIES
from router_models import pilot_commands
from router_models.experts.weights import WeightsMissing
from router_models.prices import read_prices
from router_models.suite import DEFAULT_KIND
from router_models.training.encoders import DEFAULT_ENCODER
from router_models.training.train import TrainingOptions
from router_models.types import ArtifactError, DataError

#: Limits that ``keys create`` takes, each an option of the same name.
KEY_LIMITS: dict[str, type] = {
    "requests_per_minute": int,
    "tokens_per_minute": int,
    "concurrency": int,
    "budget_usd_per_day": float,
    "budget_usd_per_month": float,
    "min_quality": float,
    "max_cost_usd": float,
    "max_ttft_ms": float,
    "max_latency_ms": float,
}
_PRICES = "YAML: model: {input: USD, output: USD} per million tokens, for quality against cost"
#: What a user can mend is one line on standard error; anything else is a defect and shows its trace.
_USER_ERRORS = (GatewayError, WeightsMissing, ArtifactError, DataError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    args = command_tree().parse_args(argv)
    try:
        args.run(args)
    except _USER_ERRORS as error:
        print(f"thalamus: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def command_tree() -> argparse.ArgumentParser:
    """The parser of every command, with its manual."""
    parser = argparse.ArgumentParser(prog="thalamus", description=gateway.DESCRIPTION)
    parser.add_argument("--version", action="version", version=gateway.__version__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serving(subcommands)
    _add_bench(subcommands)
    _add_keys(subcommands)
    _add_routing(subcommands)
    _add_savings(subcommands)
    _add_learning(subcommands)
    add_collect(subcommands)
    add_learn(subcommands)
    _add_pilots(subcommands)
    completing = subcommands.add_parser("completion", help="completion for bash, zsh or fish")
    completing.add_argument("shell", choices=SHELLS)
    completing.set_defaults(run=lambda a: print(completion(parser, a.shell), end=""))
    document(parser, PAGES)
    return parser


def _add_serving(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = subcommands.add_parser("serve", help="run the gateway")
    serve.add_argument("--config", type=Path, default=Path("thalamus.yaml"), help="YAML file")
    serve.add_argument("--port", type=int, help="overrides server.port")
    serve.add_argument("--workers", type=int, help="overrides server.workers")
    serve.set_defaults(
        run=lambda a: commands.serve_command(a.config, port=a.port, workers=a.workers)
    )

    demo = subcommands.add_parser("demo", help="run the gateway with its embedded models")
    demo.add_argument("--config", type=Path, help="YAML file with any section but models")
    demo.add_argument("--host", help="overrides server.host")
    demo.add_argument("--port", type=int, help="overrides server.port")
    demo.set_defaults(run=lambda a: commands.demo_command(a.host, a.port, a.config))

    discover = subcommands.add_parser("discover", help="list what vLLM servers serve")
    discover.add_argument(
        "urls", nargs="+", metavar="URL", help="base URL, as in http://vllm:8000/v1"
    )
    discover.add_argument("--api-key", help="env:NAME or file:PATH")
    discover.set_defaults(run=lambda a: commands.discover_command(a.urls, a.api_key))

    usage = subcommands.add_parser("usage", help="add up what was used, from the ledger on disk")
    usage.add_argument(
        "--config", type=Path, help="configuration whose state.ledger names the file"
    )
    usage.add_argument("--file", type=Path, help="the ledger itself")
    usage.add_argument(
        "--by",
        action="append",
        choices=GROUPS,
        default=None,
        help="may be given again; key by default",
    )
    _add_days(usage)
    usage.add_argument("--json", action="store_true")
    usage.set_defaults(
        run=lambda a: commands.usage_command(
            a.file, a.config, a.by or ["key"], (a.since, a.until), as_json=a.json
        )
    )

    check = subcommands.add_parser("check-config", help="check a configuration file")
    check.add_argument("config", type=Path)
    check.set_defaults(run=lambda a: commands.check_config_command(a.config))

    convert = subcommands.add_parser("convert", help="print a LiteLLM config.yaml as one of ours")
    convert.add_argument("config", type=Path)
    convert.set_defaults(run=lambda a: commands.convert_command(a.config))


def _add_bench(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = subcommands.add_parser("bench", help="measure what a request costs, beside its peers")
    bench.add_argument("--rounds", type=int, default=3)
    bench.add_argument("--quick", action="store_true", help="seconds, to see that it works")
    bench.add_argument("--page", type=Path, help="Markdown page to write the table into")
    bench.add_argument("--raw", type=Path, help="file to add every round to, one JSON line each")
    bench.add_argument(
        "--peer", action="append", default=[], help="beside this one alone; by default all found"
    )
    bench.add_argument("--flames", type=Path, help="SVG file to draw where the time goes into")
    bench.set_defaults(
        run=lambda a: bench_command(
            rounds=a.rounds,
            quick=a.quick,
            page=a.page,
            raw=a.raw,
            chosen=a.peer,
            flames=a.flames,
        )
    )


def _add_keys(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = subcommands.add_parser("keys", help="make, list and revoke API keys")
    keys.add_argument("--file", type=Path, help="the file of keys; auth.keys by default")
    keys.add_argument("--config", type=Path, help="configuration whose auth.keys names the file")
    actions = keys.add_subparsers(required=True, metavar="ACTION")

    create = actions.add_parser("create", help="make a key and print it, this once")
    create.add_argument("name", help="whose it is, for you alone")
    create.add_argument("--allow", action="append", metavar="MODEL", help="only these models")
    create.add_argument("--deny", action="append", metavar="MODEL", default=[])
    create.add_argument("--objective", help="default profile: best, cheap, fast, …")
    create.add_argument(
        "--inline-flags", action="store_true", help="read [Flag: smallest model] in its prompts"
    )
    create.add_argument("--priority", choices=PRIORITIES, help="who is turned away first when full")
    create.add_argument("--expires-days", type=float)
    for name, kind in KEY_LIMITS.items():
        create.add_argument(f"--{name.replace('_', '-')}", type=kind)
    create.set_defaults(
        run=lambda a: key_commands.create_command(
            key_commands.key_book(a.file, a.config),
            a.name,
            {
                "allow": a.allow,
                "deny": a.deny,
                "routing": {} if a.objective is None else {"objective": a.objective},
                "inline_flags": a.inline_flags,
                "priority": a.priority,
                **{name: getattr(a, name) for name in KEY_LIMITS},
            },
            expires_days=a.expires_days,
        )
    )
    listing = actions.add_parser("list", help="show all keys and what they permit")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(
        run=lambda a: key_commands.list_command(
            key_commands.key_book(a.file, a.config), as_json=a.json
        )
    )
    revoke = actions.add_parser("revoke", help="end a key for ever")
    revoke.add_argument("id")
    revoke.set_defaults(
        run=lambda a: key_commands.revoke_command(key_commands.key_book(a.file, a.config), a.id)
    )


def _add_routing(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    route = subcommands.add_parser("route", help="show where a prompt would go, and why")
    route.add_argument("prompt")
    route.add_argument("--objective", default="best", help="a profile: best, cheap, fast, …")
    route.add_argument("--config", type=Path, help="models to choose from; embedded by default")
    route.add_argument("--json", action="store_true", help="print what POST /v1/route answers")
    route.set_defaults(
        run=lambda a: commands.route_command(
            a.prompt, objective=a.objective, config_path=a.config, as_json=a.json
        )
    )

    replay = subcommands.add_parser("replay", help="make logged decisions again; judge a policy")
    replay.add_argument("--log", type=Path, required=True, help="a file of decision_log.path")
    replay.add_argument("--policy", type=Path, help="YAML file with the keys of policies.live")
    replay.add_argument("--confidence", type=_confidence, default=0.95, help="of the intervals")
    replay.add_argument("--json", action="store_true")
    replay.set_defaults(
        run=lambda a: commands.replay_command(
            a.log, policy=a.policy, confidence=a.confidence, as_json=a.json
        )
    )


def _add_savings(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    savings = subcommands.add_parser("savings", help="what routing saved, by the decision log")
    savings.add_argument("--log", type=Path, action="append", required=True, help="a decision log")
    _add_days(savings)
    savings.add_argument("--confidence", type=_confidence, default=0.95, help="of the intervals")
    savings.add_argument("--json", action="store_true")
    savings.set_defaults(
        run=lambda a: commands.savings_command(
            a.log, (a.since, a.until), confidence=a.confidence, as_json=a.json
        )
    )


def _add_days(command: argparse.ArgumentParser) -> None:
    for bound in ("since", "until"):
        command.add_argument(
            f"--{bound}", type=datetime.date.fromisoformat, metavar="YYYY-MM-DD", help="day in UTC"
        )


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _confidence(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError("must lie between 0 and 1")
    return value


def _add_learning(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = subcommands.add_parser("train", help="train a router on logged outcomes")
    train.add_argument("--data", type=Path, required=True, help="long-format parquet")
    train.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    train.add_argument(
        "--router",
        choices=commands.ROUTERS,
        default=commands.ROUTERS[-1],
        help="ensemble, which has all three; or perceptive alone",
    )
    train.add_argument(
        "--rule",
        choices=["outcomes", "literal"],
        default="outcomes",
        help="how pilots vote: by outcomes near the prompt, or as RouterRetriever's do",
    )
    train.add_argument(
        "--encoder",
        default=DEFAULT_ENCODER,
        help="how prompts are read: lexical; minilm[:FOLDER], with the extra minilm; or "
        "sentence-transformers[:FOLDER], trained with the router, with the extra train",
    )
    train.add_argument(
        "--loss",
        choices=["squared", "ranking"],
        default="squared",
        help="what is learnt: how well every model does, or beside it which does better",
    )
    train.add_argument("--steps", type=_count, default=200, help="of fine-tuning, at most")
    train.add_argument("--seed", type=_count, default=0)
    train.add_argument("--steady", action="store_true", help="a router that reads prompts thrice")
    train.add_argument("--prices", type=Path, help=_PRICES)
    train.set_defaults(
        run=lambda a: commands.train_command(
            a.data,
            a.out,
            router=a.router,
            options=TrainingOptions(a.seed, a.encoder, a.loss, a.steps, steady=a.steady),
            rule=a.rule,
            reporting=commands.Reporting(prices=read_prices(a.prices) if a.prices else None),
        )
    )

    predict = subcommands.add_parser("predict", help="write a router's predictions")
    predict.add_argument("--router", default="default", help="folder of an artifact, or default")
    predict.add_argument("--data", type=Path, required=True)
    predict.add_argument("--out", type=Path, required=True)
    _add_kind(predict)
    predict.add_argument(
        "--nearest", type=_count, default=0, metavar="N", help="show the N nearest pilots' outcomes"
    )
    predict.set_defaults(
        run=lambda a: commands.predict_command(
            a.router, a.data, a.out, kind=a.kind, nearest=a.nearest
        )
    )

    _add_judging(subcommands)


def _add_judging(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    calibrate = subcommands.add_parser("calibrate", help="make the flag guarantee possible")
    calibrate.add_argument("--router", default="default", help="folder of an artifact, or default")
    calibrate.add_argument("--data", type=Path, required=True, help="prompts it never trained on")
    calibrate.add_argument("--out", type=Path, required=True, help="file for router.calibration")
    calibrate.add_argument("--split", help="rows to use; by default all that are not train")
    calibrate.add_argument("--pass-score", type=float, default=0.5, help="below it an answer fails")
    _add_kind(calibrate)
    calibrate.set_defaults(
        run=lambda a: commands.calibrate_command(
            a.router, a.data, a.out, split=a.split, pass_score=a.pass_score, kind=a.kind
        )
    )

    evaluate = subcommands.add_parser("evaluate", help="measure a router beside its baselines")
    evaluate.add_argument("--router", default="default", help="folder of an artifact, or default")
    evaluate.add_argument("--data", type=Path, required=True)
    _add_kind(evaluate)
    evaluate.add_argument("--split", help="rows to use; by default all that are not train")
    evaluate.add_argument("--json", action="store_true")
    evaluate.add_argument("--report", type=Path, help="also write an HTML report")
    evaluate.add_argument("--prices", type=Path, help=_PRICES)
    evaluate.add_argument(
        "--robustness", action="store_true", help="rewrite and attack the prompts as well"
    )
    evaluate.add_argument(
        "--steady", action="store_true", help="read every prompt as router.steady does"
    )
    evaluate.set_defaults(
        run=lambda a: commands.evaluate_command(
            a.router,
            a.data,
            as_json=a.json,
            report=a.report,
            split=a.split,
            options=commands.EvaluationOptions(
                prices=read_prices(a.prices) if a.prices else None,
                robustness=a.robustness,
                steady=a.steady,
                kind=a.kind,
            ),
        )
    )


def _add_kind(command: argparse.ArgumentParser) -> None:
    command.add_argument("--kind", default=DEFAULT_KIND, help="which of the artifact's routers")


def _add_pilots(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pilots = subcommands.add_parser("pilots", help="look at a retriever's pilots, change models")
    actions = pilots.add_subparsers(required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="show every pilot and who does best there")
    listing.add_argument("--router", default="default", help="folder of an artifact, or default")
    listing.set_defaults(run=lambda a: pilot_commands.list_pilots_command(a.router))

    prompts = actions.add_parser("prompts", help="write the prompts to measure a new model on")
    prompts.add_argument("--router", default="default", help="folder of an artifact, or default")
    prompts.add_argument("--out", type=Path, required=True, help="parquet file")
    prompts.set_defaults(run=lambda a: pilot_commands.export_prompts_command(a.router, a.out))

    choose = actions.add_parser("choose", help="one model for a sample of prompts, as of an index")
    choose.add_argument("--router", default="default", help="folder of an artifact, or default")
    choose.add_argument("--data", type=Path, required=True, help="prompt_id, prompt")
    choose.set_defaults(run=lambda a: pilot_commands.choose_model_command(a.router, a.data))

    add = actions.add_parser("add-model", help="add a model measured on the stored prompts")
    add.add_argument("model")
    add.add_argument("--router", required=True, help="folder of an artifact")
    add.add_argument("--data", type=Path, required=True, help="prompt_id, model, score or loss")
    add.set_defaults(run=lambda a: pilot_commands.add_model_command(a.router, a.model, a.data))

    remove = actions.add_parser("remove-model", help="take a model out of the pilots")
    remove.add_argument("model")
    remove.add_argument("--router", required=True, help="folder of an artifact")
    remove.set_defaults(run=lambda a: pilot_commands.remove_model_command(a.router, a.model))


if __name__ == "__main__":
    sys.exit(main())
