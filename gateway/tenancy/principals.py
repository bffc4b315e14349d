"""Who a request belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.decision.flags import KeyRouting


@dataclass(frozen=True, slots=True)
class Principal:
    """``routing`` holds the defaults and clamps of its key; None leaves the caller free."""

    name: str
    routing: KeyRouting | None = None


ANONYMOUS = Principal("anonymous")


def authenticate(headers: Mapping[str, str]) -> Principal:
    """Tell whose request this is. Under ``auth.mode: open`` it is everybody's; keys are not read."""
    return ANONYMOUS
