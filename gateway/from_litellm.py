"""A LiteLLM proxy's ``config.yaml`` as a configuration of ours; what has no counterpart is named.

Known from LiteLLM's documentation of ``model_list``, ``litellm_settings``, ``router_settings`` and
``general_settings``. No key is ever copied: one that stands in the file becomes a variable to set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gateway.config import parse_config
from gateway.errors import ConfigError

#: Providers that speak OpenAI's API: where, and the variable that LiteLLM takes their key from.
_HOSTED = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
#: Servers of one's own that do too; ``api_base`` says where.
_OWN = ("hosted_vllm", "openai_like", "vllm", "lm_studio")
#: What people write where a server of their own wants no key.
_NO_KEYS = ("", "none", "empty", "fake-key", "anything", "dummy")
_OLLAMA = ("ollama", "ollama_chat")
_OLLAMA_URL = "http://localhost:11434"

_PARAMS = {
    "model", "api_base", "api_key", "input_cost_per_token", "output_cost_per_token",
    "cache_read_input_token_cost",
}  # fmt: skip
_INFO = {
    "id", "mode", "base_model", "input_cost_per_token", "output_cost_per_token",
    "cache_read_input_token_cost", "max_input_tokens", "max_tokens", "supports_vision",
    "supports_function_calling", "supports_response_schema",
}  # fmt: skip
_CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_vision": "vision",
    "supports_response_schema": "json_schema",
}
#: What LiteLLM lets one set, and what to do for it here.
_ADVICE = {
    "litellm_settings.num_retries": "attempts are bounded by a retry budget",
    "litellm_settings.drop_params": "unknown fields are passed on; the backend decides",
    "litellm_settings.set_verbose": "logs are JSON lines",
    "litellm_settings.fallbacks": "name auto with routing.models.allow: the plan's order falls back",
    "litellm_settings.context_window_fallbacks": "context_tokens keeps long prompts from a model",
    "litellm_settings.success_callback": "see docs/dashboards.md and decision_log",
    "litellm_settings.callbacks": "see docs/dashboards.md and decision_log",
    "router_settings.routing_strategy": "the least busy backend of a model is asked",
    "router_settings.num_retries": "attempts are bounded by a retry budget",
    "router_settings.fallbacks": "name auto with routing.models.allow: the plan's order falls back",
    "general_settings.master_key": "make keys with thalamus keys create; admin has a key of its own",
    "general_settings.database_url": "keys are one SQLite file; no database is needed",
}


@dataclass
class Converted:
    """``document`` is a configuration, ``notes`` say what was left out or has to be done."""

    document: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The configuration as YAML, the notes as comments above it."""
        notes = "".join(f"# - {note}\n" for note in self.notes)
        head = f"# From a LiteLLM configuration. To be looked at:\n{notes}\n" if notes else ""
        return head + yaml.safe_dump(self.document, sort_keys=False, allow_unicode=True)


def convert_file(path: Path) -> Converted:
    """Read and convert a file. Raises ConfigError when it is none of LiteLLM's, or holds no model."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not isinstance(document.get("model_list"), list):
        raise ConfigError(f"{path} has no model_list, so it is no configuration of LiteLLM")
    converted = convert(document)
    if not converted.document["models"]:
        reasons = "; ".join(converted.notes)
        raise ConfigError(f"{path}: no model can be carried over: {reasons}")
    _check(converted.document, str(path))
    return converted


def convert(document: Mapping[str, Any]) -> Converted:
    """Convert a decoded configuration; the order of models and backends stays."""
    converted = Converted({"models": {}})
    for place, entry in enumerate(document["model_list"]):
        _add_deployment(converted, entry, f"model_list[{place}]")
    seconds = _section(document, "litellm_settings").get("request_timeout") or _section(
        document, "router_settings"
    ).get("timeout")
    if isinstance(seconds, int | float) and seconds > 0:
        converted.document["timeouts"] = {"total_s": seconds}
    converted.notes += _leftovers(document)
    return converted


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _leftovers(document: Mapping[str, Any]) -> Iterator[str]:
    for section in document:
        if section == "model_list":
            continue
        for key in _section(document, section) or {"": None}:
            path = f"{section}.{key}".rstrip(".")
            if path in {"litellm_settings.request_timeout", "router_settings.timeout"}:
                continue
            advice = _ADVICE.get(path)
            yield f"{path} is not carried over" + (f": {advice}" if advice else "")


def _add_deployment(converted: Converted, entry: Any, place: str) -> None:
    params = entry.get("litellm_params") if isinstance(entry, dict) else None
    if not isinstance(params, dict) or "model" not in params or "model_name" not in entry:
        converted.notes.append(f"{place} has no model_name or no litellm_params.model")
        return
    name = str(entry["model_name"])
    provider, slash, served = str(params["model"]).partition("/")
    if not slash:
        provider, served = "openai", provider
    backend = _backend(name, provider, served, params, place, converted.notes)
    if backend is None:
        return
    info = entry.get("model_info") if isinstance(entry.get("model_info"), dict) else {}
    models = converted.document["models"]
    if name in models:
        models[name]["backends"].append(backend)
    else:
        models[name] = {"backends": [backend], **_facts(provider, params, info)}
    for section, known, told in (("litellm_params", _PARAMS, params), ("model_info", _INFO, info)):
        extras = [extra for extra in told if extra not in known]
        converted.notes += [f"{place}.{section}.{extra} is not carried over" for extra in extras]


def _backend(
    name: str, provider: str, served: str, params: Mapping[str, Any], place: str, notes: list[str]
) -> dict[str, Any] | None:
    """One deployment as a backend; None, with a note that says why, where that cannot be."""
    base = params.get("api_base")
    if "*" in name or "*" in served:
        notes.append(f"{place}: {name} stands for many models; name each of them")
        return None
    if isinstance(base, str) and base.startswith("os.environ/"):
        notes.append(f"{place}.litellm_params.api_base is a variable; a URL is written out here")
        return None
    url = _url(provider, base)
    if url is None:
        notes.append(
            f"{place}: {provider} does not speak OpenAI's API; put a server that does before it"
        )
        return None
    backend = {"url": url}
    if served != name:
        backend["model"] = served
    key = _key(provider, params.get("api_key"), name, place, notes)
    return backend if key is None else {**backend, "api_key": key}


def _url(provider: str, base: Any) -> str | None:
    if provider in _OLLAMA:
        return f"{str(base or _OLLAMA_URL).rstrip('/').removesuffix('/v1')}/v1"
    if base is not None and (provider in _HOSTED or provider in _OWN):
        return str(base).rstrip("/")
    return _HOSTED[provider][0] if provider in _HOSTED else None


def _key(provider: str, key: Any, model: str, place: str, notes: list[str]) -> str | None:
    if key is None:
        return f"env:{_HOSTED[provider][1]}" if provider in _HOSTED else None
    if isinstance(key, str) and key.startswith("os.environ/"):
        return f"env:{key.removeprefix('os.environ/')}"
    if provider in (*_OWN, *_OLLAMA) and str(key).lower() in _NO_KEYS:
        return None
    variable = re.sub(r"\W+", "_", model).upper() + "_API_KEY"
    notes.append(f"{place}.litellm_params.api_key was not copied: set {variable}")
    return f"env:{variable}"


def _facts(provider: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if provider == "anthropic":
        facts["endpoints"] = ["chat", "messages"]
    if info.get("mode") == "embedding":
        facts["endpoints"] = ["embeddings"]
    prices = {
        ours: told * 1e6
        for ours, theirs in (
            ("input", "input_cost_per_token"),
            ("output", "output_cost_per_token"),
            ("cached_input", "cache_read_input_token_cost"),
        )
        if isinstance(told := params.get(theirs, info.get(theirs)), int | float)
    }
    if {"input", "output"} <= prices.keys():
        facts["price_usd_per_mtok"] = {name: round(usd, 9) for name, usd in prices.items()}
    window = info.get("max_input_tokens", info.get("max_tokens"))
    if isinstance(window, int) and window > 0:
        facts["context_tokens"] = window
    if any(name in info for name in _CAPABILITIES):
        facts["capabilities"] = [ours for name, ours in _CAPABILITIES.items() if info.get(name)]
    return facts


def _check(document: Mapping[str, Any], origin: str) -> None:
    """Hold the result to our own rules; its secrets need not exist here."""
    bare = {
        name: {**model, "backends": [{**b, "api_key": None} for b in model["backends"]]}
        for name, model in document["models"].items()
    }
    parse_config({**document, "models": bare}, f"what {origin} becomes")
