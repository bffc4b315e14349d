"""API keys: what one is, what it permits, and how a caller shows it.

A key is shown once, when it is made. What is kept is its SHA-256: it holds 256 random bits, so that
a slow hash would add nothing (NIST SP 800-63B §5.1.1.2 asks for one where secrets can be guessed).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

_TOKEN = re.compile(r"sk-thalamus-([0-9a-f]{12})-[A-Za-z0-9_-]{43}")
_Count = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
#: Who is turned away first when the gateway is full.
Priority = Literal["low", "normal", "high"]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class KeyPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the holder of a key may do. None leaves a thing unlimited.

    ``routing`` holds defaults as a ``routing`` object, which requests may change; the four bounds
    below it clamp what they ask. ``inline_flags`` lets prompts carry flags. Budgets end
    at midnight UTC and with the month.
    """

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    routing: dict[str, Any] = {}
    inline_flags: bool = False
    min_quality: _Share | None = None
    max_cost_usd: _Amount | None = None
    max_ttft_ms: _Amount | None = None
    max_latency_ms: _Amount | None = None
    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    concurrency: _Count | None = None
    priority: Priority = "normal"
    budget_usd_per_day: _Amount | None = None
    budget_usd_per_month: _Amount | None = None

    def permits(self, model: str) -> bool:
        return model not in self.deny and (self.allow is None or model in self.allow)


class Key(msgspec.Struct, frozen=True):
    """One key as it is kept; times are seconds since the epoch."""

    id: str
    name: str
    digest: bytes
    created_s: float
    expires_s: float | None
    revoked_s: float | None
    policy: KeyPolicy

    def matches(self, token: str) -> bool:
        """Compare in a time that does not depend on where the first difference lies."""
        return hmac.compare_digest(self.digest, _digest(token))

    def end_of(self, now_s: float) -> str | None:
        """Why it cannot be used now, or None."""
        if self.revoked_s is not None:
            return "was revoked"
        if self.expires_s is not None and now_s >= self.expires_s:
            return "has expired"
        return None


def make_key(
    name: str, policy: KeyPolicy, now_s: float, expires_s: float | None = None
) -> tuple[str, Key]:
    """Make a key; returns what its holder sends, which nobody can find out later, and its record."""
    key_id = secrets.token_hex(6)
    token = f"sk-thalamus-{key_id}-{secrets.token_urlsafe(32)}"
    return token, Key(key_id, name, _digest(token), now_s, expires_s, None, policy)


def id_in(token: str) -> str | None:
    """Return the public part of a key, None when the text is no key of ours."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def shown_key(headers: Mapping[str, str]) -> str | None:
    """Return what a request shows as its key: ``authorization: Bearer``, lower-case names."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
