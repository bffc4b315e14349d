"""What each ``thalamus`` command does, beneath the words it is called with."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.config import load_config, load_policy, load_without_models
from gateway.decision.endpoints import CHAT
from gateway.errors import ConfigError
from gateway.ledger.usage_report import print_usage, usage_of
from gateway.settings import Config
from router_models.commands import (
    ROUTERS,
    EvaluationOptions,
    Reporting,
    calibrate_command,
    evaluate_command,
    predict_command,
    train_command,
)

__all__ = [
    "ROUTERS",
    "EvaluationOptions",
    "Reporting",
    "calibrate_command",
    "check_config_command",
    "convert_command",
    "demo_command",
    "discover_command",
    "evaluate_command",
    "predict_command",
    "replay_command",
    "route_command",
    "savings_command",
    "serve_command",
    "train_command",
    "usage_command",
]

_TRY_IT = """
Thalamus is ready. Try it:

  curl http://{at}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is 17 * 24?"}}]}}'

  python -c "from openai import OpenAI; print(OpenAI(base_url='http://{at}/v1', api_key='-')\
.chat.completions.create(model='auto', max_tokens=60, \
messages=[{{'role': 'user', 'content': 'Write a haiku'}}]))"

Console: http://{at}/console/     Stop: Ctrl-C
"""


def serve_command(config_path: Path, *, port: int | None, workers: int | None) -> None:
    """Run the gateway until told to stop."""
    from gateway.server.run import serve

    config = load_config(config_path, port=port, workers=workers)
    serve(config, config_path, lambda: None)


def usage_command(
    file: Path | None,
    config: Path | None,
    by: Sequence[str],
    days: tuple[datetime.date | None, datetime.date | None],
    *,
    as_json: bool,
) -> None:
    """Print what was used, added up by groups. Raises ConfigError when there is no ledger."""
    path = file or (None if config is None else load_without_models(config).state.ledger)
    if path is None:
        raise ConfigError("usage: name the ledger with --file, or a --config that has state.ledger")
    lines = usage_of(path, by, *days)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(lines)).decode())
    else:
        print_usage(lines, by)


def discover_command(urls: Sequence[str], api_key: str | None) -> None:
    """Print the ``models`` of a configuration for these servers, and what they say of themselves."""
    from gateway.discovered import describe_servers

    print(describe_servers(urls, api_key), end="")


def demo_command(host: str | None, port: int | None, config_path: Path | None) -> None:
    """Run the embedded engine and the gateway in front of it until Ctrl-C."""
    from gateway.embedded.demo import adapter_paths, demo_config, load_experts
    from gateway.embedded.process import engine_running
    from gateway.server.run import check_port, serve

    experts = load_experts()
    server = {"host": host, "port": port}
    # Before the engine starts: whoever has to choose another port should not wait for it.
    check_port(demo_config(experts, "http://127.0.0.1:1", server, config_path).server)
    with engine_running(adapter_paths(experts)) as engine_address:

        def read(path: Path | None) -> Config:
            return demo_config(experts, engine_address, server, path)

        config = read(config_path)
        at = f"{config.server.host}:{config.server.port}"
        serve(config, config_path, lambda: print(_TRY_IT.format(at=at), flush=True), read)


def check_config_command(config_path: Path) -> None:
    """Check a configuration and print it as it takes effect, secrets hidden."""
    config = load_config(config_path)
    print(config.model_dump_json(indent=2))


def convert_command(path: Path) -> None:
    """Print LiteLLM's configuration as one of ours."""
    from gateway.from_litellm import convert_file

    print(convert_file(path).text(), end="")


def route_command(prompt: str, *, objective: str, config_path: Path | None, as_json: bool) -> None:
    """Decide for one prompt without asking any model."""
    from gateway.api.explain import decision_document
    from gateway.parts import build_parts
    from gateway.pipeline import Incoming
    from gateway.tenancy.principals import ANONYMOUS
    from gateway.terminal import print_decision

    parts = build_parts(_routing_config(config_path))
    body = msgspec.json.encode(
        {
            "model": "auto",
            "messages": [{"role": "user", "content": prompt}],
            "routing": {"objective": objective},
        }
    )
    incoming = Incoming(CHAT, "route", {}, body, parts.clock.monotonic_s())
    plan = parts.pipeline.plan(incoming, ANONYMOUS, always_scored=True)
    document = decision_document(plan, parts.catalog, parts.pipeline.scorer)
    if as_json:
        print(msgspec.json.format(document).decode())
    else:
        print_decision(msgspec.json.decode(document))


def replay_command(log: Path, *, policy: Path | None, confidence: float, as_json: bool) -> None:
    """Make every logged decision again, and estimate another policy on them."""
    from gateway.decision.arms import policy_of
    from gateway.ledger.replay import replay_log
    from gateway.replay_report import print_replay

    other = None if policy is None else policy_of(load_policy(policy), policy.stem)
    replay = replay_log(log, other, confidence)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(replay)).decode())
    else:
        print_replay(replay)


def savings_command(
    logs: Sequence[Path],
    days: tuple[datetime.date | None, datetime.date | None],
    *,
    confidence: float,
    as_json: bool,
) -> None:
    """Print what routing saved by these logs, against the alternatives."""
    from gateway.ledger.decision_records import within_days
    from gateway.ledger.saved import saved_by
    from gateway.saved_report import print_saved

    saved = saved_by(within_days(logs, *days), confidence)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(saved)).decode())
    else:
        print_saved(saved)


def _routing_config(config_path: Path | None) -> Config:
    from gateway.embedded.demo import demo_config, load_experts

    if config_path is None:
        return demo_config(load_experts(), "http://127.0.0.1:1", {})
    return load_config(config_path)
