"""The catalog: models of one server share its connections, never another's key."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.config import parse_config
from gateway.decision.catalog import Catalog


def transports(*backends: dict[str, Any]) -> int:
    url = "http://127.0.0.1:1/v1"
    models = {f"m{i}": {"backends": [{"url": url, **b}]} for i, b in enumerate(backends)}
    catalog = Catalog(parse_config({"models": models}, "the test"), SystemClock())
    return len({id(backend.transport) for _, backend in catalog.backends})


def test_models_of_one_server_share_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "a")
    assert transports({}, {}) == 1
    assert transports({"api_key": "env:KEY_A"}, {"api_key": "env:KEY_A"}) == 1
    assert transports({}, {"api_key": "env:KEY_A"}) == 2


def test_two_keys_of_one_server_never_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "a")
    monkeypatch.setenv("KEY_B", "b")
    assert transports({"api_key": "env:KEY_A"}, {"api_key": "env:KEY_B"}) == 2


@pytest.mark.parametrize(
    ("model", "backends", "level"),
    [(None, [None], None), (2, [None, None], 2), (2, [3, 1], 1), (None, [3, 2], 2), (1, [3], 1)],
)
def test_a_model_is_as_secure_as_its_least_secure_part(
    model: int | None, backends: list[int | None], level: int | None
) -> None:
    url = "http://127.0.0.1:1/v1"
    document = {
        "security_level": model,
        "backends": [{"url": url, "security_level": b} for b in backends],
    }
    catalog = Catalog(parse_config({"models": {"m": document}}, "the test"), SystemClock())
    assert catalog.models["m"].security_level == level
