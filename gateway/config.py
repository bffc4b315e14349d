"""Reading the configuration: one YAML file, read once into the frozen tree of gateway.settings.

All that is wrong is said at once, each with file, line, column and key. No file but this and the
secrets of gateway.setting_types read the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gateway.errors import ConfigError
from gateway.settings import Config, Policy, Server
from gateway.yaml_places import PlacedDocument, read_placed


def load_config(
    path: Path, models: Mapping[str, Any] | None = None, **server: int | str | None
) -> Config:
    """Read and check a configuration file; ``server`` keys that are not None override it.

    ``models`` stand for the section where the file has none.
    Raises ConfigError naming, for all that is wrong, the file, line, column and key.
    """
    placed = _read_yaml(path)
    document = placed.document
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping with at least the key 'models'")
    if models is not None:
        document.setdefault("models", models)
    overrides = {key: value for key, value in server.items() if value is not None}
    try:
        Server.model_validate(overrides)
    except ValidationError as error:  # said on the command line: no line of the file is wrong
        wrong = [f"--{c.path[0]}: {c.text}" for c in _complaints(error)]
        raise ConfigError("\n".join(wrong)) from error
    section = document.get("server") or {}
    if overrides and isinstance(section, dict):
        document["server"] = {**section, **overrides}
    return parse_config(document, str(path), placed)


def load_without_models(path: Path) -> Config:
    """Read a configuration for what asks no model: keys and ledgers, those of ``demo`` too."""
    return load_config(path, {"none": {"backends": [{"url": "http://127.0.0.1:9/v1"}]}})


def load_policy(path: Path) -> Policy:
    """Read a file that holds what ``policies.live`` of a configuration does.

    Raises ConfigError naming the file, line, column and key.
    """
    placed = _read_yaml(path)
    try:
        return Policy.model_validate(placed.document)
    except ValidationError as error:
        raise _config_error(_complaints(error), str(path), placed) from error


def _read_yaml(path: Path) -> PlacedDocument:
    try:
        return read_placed(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def parse_config(
    document: Mapping[str, Any], origin: str, placed: PlacedDocument | None = None
) -> Config:
    """Check a decoded configuration; ``origin`` names its source in errors, ``placed`` the lines.

    Raises ConfigError listing every wrong key with its path.
    """
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise _config_error(_complaints(error), origin, placed) from error
    if complaints := list(_contradictions(config)):
        raise _config_error(complaints, origin, placed)
    return config


@dataclass(frozen=True)
class _Complaint:
    path: tuple[str | int, ...]
    text: str
    of_key: bool = False


def _contradictions(config: Config) -> Iterator[_Complaint]:
    """What each section allows, and all together do not."""
    for name, model in config.models.items():
        if name == "auto" or name.startswith(("auto:", "router-", "openrouter/")):
            text = "this name is taken by routing; choose another"
            yield _Complaint(("models", name), text, of_key=True)
        if model.gpu_usd_per_hour is not None and model.price_usd_per_mtok is not None:
            text = "a model has a price list or a price of its hardware, not both"
            yield _Complaint(("models", name, "gpu_usd_per_hour"), text)
    yield from _router_contradictions(config)
    if config.admin is not None and config.server.workers > 1:
        text = "one process has one admin port; set server.workers to 1"
        yield _Complaint(("admin",), text)
    if config.server.workers > 1:
        if config.server.watch_config:
            text = "one process watches its file; set server.workers to 1, or send SIGHUP"
            yield _Complaint(("server", "watch_config"), text)
        if config.server.notice_s:
            text = "one process gives notice; set server.workers to 1"
            yield _Complaint(("server", "notice_s"), text)
    if config.auth.mode == "keys" and config.server.workers > 1 and not config.state.is_shared:
        text = "workers share the limits of keys in Redis: set state.url, or server.workers to 1"
        yield _Complaint(("auth", "mode"), text)


def _router_contradictions(config: Config) -> Iterator[_Complaint]:
    fallback = config.router.fallback
    if fallback is not None and fallback not in config.models:
        yield _Complaint(("router", "fallback"), f"no model {fallback!r} is configured")
    if config.learning is not None and config.router.sha256 is not None:
        text = "learning brings other artifacts into force: leave out one of the two"
        yield _Complaint(("router", "sha256"), text)


def _complaints(error: ValidationError) -> list[_Complaint]:
    found = error.errors()
    wrong_within = {
        path[:depth] for path in (e["loc"] for e in found) for depth in range(len(path))
    }
    # A list whose entries are wrong counts as empty: the entries are what there is to say.
    return [
        _complaint(details)
        for details in found
        if details["type"] != "too_short" or details["loc"] not in wrong_within
    ]


def _complaint(error: Any) -> _Complaint:
    if error["type"] == "extra_forbidden":
        return _Complaint(error["loc"], "unknown key", of_key=True)
    message = error["msg"].removeprefix("Value error, ")
    at_key = error["type"] == "missing" or error["loc"][-1:] == ("[key]",)
    return _Complaint(error["loc"], f"{message[:1].lower()}{message[1:]}", of_key=at_key)


def _config_error(
    complaints: Sequence[_Complaint], origin: str, placed: PlacedDocument | None
) -> ConfigError:
    lines = []
    for wrong in complaints:
        place = None if placed is None else placed.place(wrong.path, of_key=wrong.of_key)
        where = origin if place is None else f"{origin}:{place}"
        lines.append(f"{where}: {'.'.join(map(str, wrong.path))}: {wrong.text}")
    return ConfigError("\n".join(lines))


#: Where worker processes find the configuration that their parent read.
CONFIG_VARIABLE = "THALAMUS_CONFIG"

#: Where the worker processes of one gateway add up their metrics.
METRICS_VARIABLE = "THALAMUS_METRICS_FOLDER"


def metrics_folder() -> Path | None:
    """The folder that the parent of several workers made; None for a lone process."""
    folder = os.environ.get(METRICS_VARIABLE)
    return None if folder is None else Path(folder)


def config_from_environment() -> Config:
    """Load the file that the parent process named. Raises ConfigError like load_config."""
    path = os.environ.get(CONFIG_VARIABLE)
    if path is None:
        raise ConfigError(f"{CONFIG_VARIABLE} is not set")
    return load_config(Path(path))
