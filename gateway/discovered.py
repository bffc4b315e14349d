"""``thalamus discover``: vLLM servers' own words as the ``models`` of a configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from gateway.errors import ConfigError, UpstreamError
from gateway.settings import Backend
from gateway.upstream.discovery import ServerFacts, discover


def describe_servers(urls: Sequence[str], api_key: str | None) -> str:
    """YAML with one model for each name that any server lists; comments say what each server does now.

    Raises ConfigError naming the URL that is none, that cannot be reached or that is no server of
    models.
    """
    facts = {url: _facts_of(url, api_key) for url in urls}
    models: dict[str, dict[str, Any]] = {}
    for url, found in facts.items():
        for served in found.models:
            entry = models.setdefault(served.name, {"backends": []})
            backend = {"url": url}
            entry["backends"].append(
                backend if api_key is None else {**backend, "api_key": api_key}
            )
            if served.context_tokens is not None:
                known = entry.get("context_tokens", served.context_tokens)
                entry["context_tokens"] = min(known, served.context_tokens)
    remarks = [f"# {remark}\n" for url, found in facts.items() for remark in _remarks(url, found)]
    return "".join(remarks) + yaml.safe_dump({"models": models}, sort_keys=False)


def _facts_of(url: str, api_key: str | None) -> ServerFacts:
    try:
        backend = Backend.model_validate({"url": url, "api_key": api_key})
        return asyncio.run(discover(backend))
    except ValidationError as error:
        raise ConfigError(f"{url}: {error.errors()[0]['msg']}") from error
    except UpstreamError as error:
        raise ConfigError(f"{url}: {error}; the base URL ends in /v1 as a rule") from error


def _remarks(url: str, found: ServerFacts) -> Iterator[str]:
    for served in found.models:
        if served.parent:
            yield f"{url}: {served.name} is an adapter of {served.parent}"
    if found.adapters is not None:
        running = ", ".join(sorted(found.adapters.running)) or "none"
        yield f"{url}: adapters at work: {running}; {found.adapters.most} fit at once"
    if found.experts is not None:
        work = found.experts
        yield (
            f"{url}: our experts: {work.calls} calls, {work.tokens} tokens, "
            f"{work.distinct_per_call:.1f} distinct experts a call, "
            f"{work.slots_not_computed} of {work.slots} slots not computed, "
            f"busiest expert {work.busiest_share:.0%} of its layer"
        )
