"""``thalamus learn …``: train routers on scored traffic, and say which one serves."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from gateway.config import load_config
from gateway.errors import ConfigError, GatewayError
from gateway.learning.steps import read_report
from gateway.learning.versions import History, VersionStore, describe_learning
from gateway.settings import Config

_SHORTEST_WAIT_S = 10.0


def add_learn(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its actions."""
    learn = subcommands.add_parser(
        "learn", help="train routers on scored traffic; say which serves"
    )
    learn.add_argument("--config", type=Path, default=Path("thalamus.yaml"), help="YAML file")
    actions = learn.add_subparsers(required=True, metavar="ACTION")

    run = actions.add_parser("run", help="take one step: train and judge, or look at the shadow")
    run.add_argument(
        "--every", type=_seconds, metavar="SECONDS", help="go on for ever, a step so often"
    )
    run.set_defaults(run=lambda a: run_command(a.config, every_s=a.every))

    status = actions.add_parser("status", help="show all versions and which one serves")
    status.add_argument("--json", action="store_true", help="as GET /admin/learning answers")
    status.set_defaults(run=lambda a: status_command(a.config, as_json=a.json))

    for name, text in (
        ("promote", "bring a version into force, whatever it was found to be"),
        ("reject", "turn a version down"),
        ("rollback", "return to a version that was in force before"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("id")
        action.set_defaults(run=lambda a, name=name: change_command(a.config, name, a.id))


def run_command(config_path: Path, *, every_s: float | None = None) -> None:
    """Take one step, or one every so many seconds until told to stop.

    The configuration is read anew for each. Raises what ``Learner.run_round`` does for a single
    step; in an endless run an error is printed and the next step tries again.
    """
    if every_s is None:
        _take_step(load_config(config_path), None)
        return
    while True:
        try:
            _take_step(load_config(config_path), every_s)
        except (GatewayError, ValueError) as error:
            print(f"thalamus: {error}", flush=True)
        time.sleep(every_s)


def status_command(config_path: Path, *, as_json: bool) -> None:
    """Print every version. Raises ConfigError when there is no section ``learning``."""
    config = load_config(config_path)
    store = _store(config)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(describe_learning(config))).decode())
        return
    print_history(store.read())
    report = read_report(store.folder)
    if report is not None:
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(report.ended_s))
        print(f"last step, {when}: {report.said}")


def change_command(config_path: Path, action: str, version_id: str) -> None:
    """Promote, reject or roll back. Raises ConfigError, NotFound or InvalidRequest."""
    store = _store(load_config(config_path))
    if action == "promote":
        history = store.promote(version_id, "promoted by an operator", time.time())
    elif action == "rollback":
        history = store.roll_back(version_id, "an operator rolled back to it", time.time())
    else:
        history = store.reject(version_id, "rejected by an operator")
    print_history(history)


def print_history(history: History, console: Console | None = None) -> None:
    """Print versions, the newest last, with why each stands where it does."""
    table = Table(title="Versions of the router", title_justify="left")
    for heading in ("", "version", "trained", "stage", "prompts", "difference", "why"):
        table.add_column(heading, no_wrap=heading in {"version", "stage"})
    for version in history.versions:
        found = version.metrics
        difference = "–"
        if found.difference is not None:
            low, high = found.difference_low, found.difference_high
            difference = f"{found.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        table.add_row(
            "→" if version.id == history.active else "",
            version.id,
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(version.created_s)),
            version.stage,
            "–" if version.train_prompts is None else str(version.train_prompts),
            difference,
            version.reason,
        )
    (console or Console()).print(table)


def _take_step(config: Config, every_s: float | None) -> None:
    # Training code is loaded by those who train alone.
    from gateway.learning.rounds import Learner

    print(Learner(config, every_s=every_s).run_round().told(), flush=True)


def _store(config: Config) -> VersionStore:
    if config.learning is None:
        raise ConfigError("there is no section learning: add learning: {folder: DIR}")
    return VersionStore(config.learning.folder)


def _seconds(text: str) -> float:
    value = float(text)
    if value < _SHORTEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"must be {_SHORTEST_WAIT_S:.0f} or more")
    return value
