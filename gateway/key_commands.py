"""``thalamus keys …``: make, list and revoke API keys in the file that the gateway reads."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from gateway.config import load_without_models
from gateway.errors import ConfigError
from gateway.settings import Auth
from gateway.tenancy.issuing import issue_key, key_entry
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.principals import KeyBook, open_book


def key_book(file: Path | None, config: Path | None) -> KeyBook:
    """The file named, or where a configuration keeps its keys, or the default file."""
    if file is None and config is not None:
        return open_book(load_without_models(config))
    return KeyFile(file or Auth().keys)


def create_command(
    keys: KeyBook, name: str, limits: dict[str, Any], *, expires_days: float | None
) -> None:
    """Make a key and print it, this once. Raises ConfigError for a policy that makes no sense."""
    policy = {k: v for k, v in limits.items() if v is not None}
    try:
        token, key = issue_key(keys, name, policy, time.time(), expires_days)
    except msgspec.ValidationError as error:
        raise ConfigError(f"keys create: {error}") from error
    print(token)
    print(f"key {key.id} is in {keys.place}; it is not shown again", file=sys.stderr)


def list_command(keys: KeyBook, *, as_json: bool) -> None:
    """Print every key with its state and its policy, never its secret."""
    now_s = time.time()
    entries = [key_entry(key, now_s) for key in keys.read()]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(entries)).decode())
        return
    for entry in entries:
        policy = msgspec.json.encode(entry["policy"]).decode()
        print(f"{entry['id']}  {entry['created']}  {entry['state']:8}  {entry['name']}  {policy}")


def revoke_command(keys: KeyBook, key_id: str) -> None:
    """Revoke a key; a running gateway refuses it within two seconds. Raises ConfigError."""
    if not keys.revoke(key_id, time.time()):
        raise ConfigError(f"keys revoke: there is no key {key_id} in {keys.place}; see keys list")
    print(f"key {key_id} is revoked", file=sys.stderr)
