"""The configuration of a first run: the embedded base model and its experts behind one engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config import load_config, parse_config
from gateway.embedded.engine_limits import CONTEXT_TOKENS
from gateway.errors import ConfigError
from gateway.settings import Config
from router_models.experts.library import BASE_MODEL, Expert, read_library

ADAPTERS = Path(__file__).parent / "adapters"


def load_experts() -> list[Expert]:
    """The shipped experts. Raises ConfigError naming the adapter file that is missing."""
    try:
        experts = read_library(ADAPTERS)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{ADAPTERS / 'library.json'} is missing: check out the repository again"
        ) from error
    for path in adapter_paths(experts):
        if not path.is_file():
            raise ConfigError(f"the adapter {path} is missing: check out the repository again")
    return experts


def adapter_paths(experts: list[Expert]) -> list[Path]:
    """Adapter files in the order of their ids at the engine."""
    return [ADAPTERS / expert.file for expert in experts]


def demo_config(
    experts: list[Expert],
    engine_address: str,
    server: Mapping[str, Any],
    path: Path | None = None,
) -> Config:
    """Build the configuration: every expert is a model, told apart by the adapter it asks for.

    All other sections come from the file at ``path``; ``server`` overrides it where it is not None.
    """
    models = _models(experts, engine_address)
    if path is None:
        told = {key: value for key, value in server.items() if value is not None}
        return parse_config({"server": told, "models": models}, "the embedded library")
    config = load_config(path, models, **server)
    if set(config.models) != set(models):
        raise ConfigError(f"{path}: models: demo has its own; serve these with thalamus serve")
    if config.server.workers > 1:
        raise ConfigError(f"{path}: server.workers: demo is one process; set it to 1")
    return config


def _models(experts: list[Expert], engine_address: str) -> dict[str, Any]:
    names = [BASE_MODEL, *(expert.model for expert in experts)]
    return {
        name: {
            "backends": [
                {"url": f"{engine_address}/v1", "extra_body": {"lora": _scales(name, experts)}}
            ],
            "price_usd_per_mtok": {"input": 0, "output": 0},
            "context_tokens": CONTEXT_TOKENS,
            "parameters_b": 0.135,
            "released": "2024-10-31",
            "security_level": 3,
        }
        for name in names
    }


def _scales(model: str, experts: list[Expert]) -> list[dict[str, float]]:
    """A scale for every adapter: the engine goes on with the last request's where a list is empty."""
    return [
        {"id": index, "scale": float(expert.model == model)} for index, expert in enumerate(experts)
    ]
