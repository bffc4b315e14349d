"""Making keys and telling of them, whoever asks: the command line or the admin port."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.tenancy.keys import Key, KeyPolicy, make_key
from gateway.tenancy.principals import KeyBook, routing_of

_DAY_S = 86_400.0


def issue_key(
    keys: KeyBook,
    name: str,
    policy: Mapping[str, Any],
    now_s: float,
    expires_days: float | None,
) -> tuple[str, Key]:
    """Make a key and keep it; returns what its holder sends, which nobody can find out later.

    Raises msgspec.ValidationError or ConfigError for a policy that makes no sense.
    """
    checked = msgspec.convert(dict(policy), KeyPolicy)
    routing_of(checked)
    expires_s = None if expires_days is None else now_s + expires_days * _DAY_S
    token, key = make_key(name, checked, now_s, expires_s)
    keys.add(key)
    return token, key


def key_entry(key: Key, now_s: float) -> dict[str, Any]:
    """What may be told of a key: its state and its policy, never its secret."""
    state = "revoked" if key.revoked_s is not None else "expired" if key.end_of(now_s) else "active"
    return {
        "id": key.id,
        "name": key.name,
        "state": state,
        "created": _day(key.created_s),
        "expires": None if key.expires_s is None else _day(key.expires_s),
        "policy": msgspec.to_builtins(key.policy),
    }


def _day(at_s: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at_s, datetime.UTC):%Y-%m-%d}"
