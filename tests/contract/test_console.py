"""What the console's routes tell, and to whom: a real gateway on a socket, before scripted backends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.admin.routes import admin_app
from gateway.settings import Admin
from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.fakes.backend import completion, says
from tests.faults.conftest import Stage, eventually, stage_with

SECRET = "a-backend-key-that-nobody-may-see"  # noqa: S105 - made up
ADMIN_KEY = "an-admin-key"


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """An open gateway with things to hide."""
    monkeypatch.setenv("BACKEND_KEY", SECRET)
    backend = {
        "api_key": "env:BACKEND_KEY",
        "extra_body": {"top_k": 3, "x_api_key": SECRET, "nested": {"auth_token": SECRET}},
    }
    log = {"decision_log": {"path": str(tmp_path / "decisions.jsonl")}}
    async with stage_with(backend=backend, extra=log) as made:
        made.first.will(says(completion()))
        yield made
        await made.census()


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[tuple[Stage, KeyFile]]:
    file = KeyFile(tmp_path / "keys.db")
    async with stage_with(extra={"auth": {"mode": "keys", "keys": str(file.path)}}) as made:
        made.first.will(says(completion()))
        made.second.will(says(completion()))
        yield made, file
        await made.census()


async def new_key(stage: Stage, file: KeyFile, **policy: Any) -> dict[str, str]:
    """Make a key, wait until it is known, and return the header that shows it."""
    token, key = make_key("test", KeyPolicy(**policy), time.time())
    file.add(key)
    await eventually(lambda: key.id in stage.parts.door._principals, 4)
    return {"authorization": f"Bearer {token}"}


async def get(stage: Stage, name: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    return await stage.client.get(f"/console/api/{name}", headers=headers)


async def test_pages_run_nothing_foreign_and_are_asked_for_again(stage):
    page = await stage.client.get("/console/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in page.headers
    again = await stage.client.get("/console/", headers={"if-none-match": page.headers["etag"]})
    assert again.status_code == 304
    assert (await stage.client.get("/console/../routes.py")).status_code == 404


async def test_another_origin_is_told_nothing(stage):
    asked = {"origin": "http://elsewhere.test", "access-control-request-method": "GET"}
    answer = await stage.client.options("/console/api/traffic", headers=asked)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


async def test_an_open_gateway_shows_models_and_backends_without_any_set_up(stage):
    told = (await get(stage, "models")).json()["models"]
    assert [m["model"] for m in told] == ["first", "second"]
    backend = told[0]["backends"][0]
    assert (backend["served_model"], backend["breaker_open"]) == ("served-name", False)
    assert told[0]["price_usd_per_mtok"]["output"] == 2.0
    session = (await get(stage, "session")).json()
    assert session["keeps_feedback"] is True
    assert session["routers"] == []


async def test_traffic_is_what_was_asked(stage):
    await stage.ask()
    told = (await get(stage, "traffic")).json()
    assert told["totals"]["requests"] == 1
    shown = told["requests"][0]
    assert (shown["model"], shown["outcome"]) == ("first", "ok")
    assert shown["request_id"].startswith("req_")
    assert told["baselines"][0]["compared"] == 1
    assert "key" not in shown


async def test_the_configuration_is_shown_on_the_machine_without_secrets(stage):
    shown = await get(stage, "config")
    assert shown.status_code == 200
    backend = shown.json()["config"]["models"]["first"]["backends"][0]
    assert backend["api_key"] == "***"
    assert backend["extra_body"] == {
        "top_k": 3,
        "x_api_key": "***",
        "nested": {"auth_token": "***"},
    }
    for name in ("config", "models", "traffic", "session", "about"):
        assert SECRET not in (await get(stage, name)).text, name


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "gateway.example"},
        {"host": "127.0.0.1.rebound.test"},
        {"host": "[2001:db8::1]:8080"},
        {"host": "10.0.0.7:8080"},
        {"x-forwarded-for": "10.0.0.9"},
        {"forwarded": "for=10.0.0.9"},
    ],
)
async def test_the_configuration_is_for_nobody_from_elsewhere(stage, headers):
    refused = await get(stage, "config", headers)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "admin_only"


async def test_a_key_sees_its_own_traffic_and_permitted_models_and_nothing_of_operators(keyed):
    stage, file = keyed
    mine = await new_key(stage, file, allow=("second",))
    other = await new_key(stage, file)
    ask = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    for headers in (mine, other, other):
        answer = await stage.client.post("/v1/chat/completions", json=ask, headers=headers)
        assert answer.status_code == 200
    assert (await get(stage, "traffic", mine)).json()["totals"]["requests"] == 1
    assert (await get(stage, "traffic", other)).json()["totals"]["requests"] == 2
    told = (await get(stage, "models", mine)).json()["models"]
    assert [m["model"] for m in told] == ["second"]
    assert "backends" not in told[0]
    assert (await get(stage, "config", mine)).status_code == 403
    for name in ("traffic", "models", "session"):
        assert (await get(stage, name)).status_code == 401, name
    assert (await get(stage, "about")).json()["auth"] == "keys"


async def test_the_admin_port_has_the_pages_and_its_routes_want_its_key(stage, monkeypatch):
    await stage.ask()
    monkeypatch.setenv("ADMIN_KEY", ADMIN_KEY)
    admin = Admin.model_validate({"port": 0, "key": "env:ADMIN_KEY"})
    transport = httpx2.ASGITransport(admin_app(stage.gateway, admin))
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as client:
        assert (await client.get("/")).headers["location"] == "/console/"
        page = await client.get("/console/")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert (await client.get("/console/api/about")).json()["place"] == "admin"
        for path in ("traffic", "models", "config", "backends"):
            assert (await client.get(f"/admin/{path}")).status_code == 401, path
        client.headers["authorization"] = f"Bearer {ADMIN_KEY}"
        traffic = (await client.get("/admin/traffic")).json()
        assert traffic["requests"][0]["key"] == "anonymous"
        models = (await client.get("/admin/models")).json()["models"]
        assert models[0]["backends"][0]["usable"] is True
        assert SECRET not in (await client.get("/admin/config")).text


async def test_every_candidate_tells_what_each_goal_costs(stage):
    ask = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    ask["routing"] = {"models": {"deny": ["first"]}}
    first, second = (await stage.client.post("/v1/route", json=ask)).json()["candidates"]
    assert first["goal_costs"]["cost"] == first["predicted_cost_usd"], "of those left out, too"
    assert second["goal_costs"] == {
        "cost": second["predicted_cost_usd"],
        "latency": None,
        "size": None,
        "recency": None,
        "security": None,
        "verbosity": second["predicted_output_tokens"],
        "readability": None,
    }
