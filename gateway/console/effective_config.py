"""The configuration in force, fit to be shown: every default, and no secret."""

from __future__ import annotations

import re
from typing import Any

from gateway.parts import Parts

_MASK = "***"
#: Names under which a free field of a request, ``extra_body``, may hold what opens something.
_TELLING_NAME = re.compile(r"key|token|secret|password|credential|authorization", re.IGNORECASE)


def effective_config(parts: Parts) -> dict[str, Any]:
    """The document; secrets show as ``***``."""
    return {
        "config": _masked(parts.config.model_dump(mode="json")),
        "policy_version": parts.decider.version,
    }


def _masked(value: Any, *, is_free: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            name: _MASK
            if is_free and isinstance(of_it, str) and _TELLING_NAME.search(name)
            else _masked(of_it, is_free=is_free or name == "extra_body")
            for name, of_it in value.items()
        }
    if isinstance(value, list):
        return [_masked(of_it, is_free=is_free) for of_it in value]
    # As pydantic writes a secret; no other setting looks like it.
    return _MASK if value == "**********" else value
