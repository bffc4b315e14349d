"""Operators see the versions of the router on a running gateway, and change which one serves."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx2

from gateway.learning.versions import Version, VersionStore
from router_models.artifact import DEFAULT, load_suite
from router_models.pilot_commands import remove_model_command
from tests.deploy.gateway_process import running_gateway
from tests.deploy.test_reload import Operator, admin, wait_until


def two_versions(folder: Path) -> tuple[str, str]:
    """Keep the shipped router and a changed one as versions."""
    store = VersionStore(folder)
    folder.mkdir()
    names = []
    for number in range(2):
        artifact = Path(shutil.copytree(DEFAULT, folder / f"new-{number}"))
        if number:
            remove_model_command(artifact, "smollm2-135m-math")
        names.append(load_suite(artifact).version)
        version = Version(
            id=names[-1], created_s=float(number), stage="shadow", reason="for a test"
        )
        store.keep(version, artifact)
    return names[0], names[1]


def test_versions_are_seen_promoted_rejected_and_rolled_back(tmp_path: Path) -> None:
    first, second = two_versions(tmp_path / "learning")
    section = admin(tmp_path)
    learning = {"folder": str(tmp_path / "learning")}
    with running_gateway(tmp_path, admin=section, learning=learning) as gateway:
        operator = Operator(section["port"])

        def seen() -> dict[str, object]:
            url = f"{gateway.url}/console/api/learning"
            answer = httpx2.get(url, trust_env=False)
            assert answer.status_code == 200
            assert answer.json() == operator.ask("GET", "/learning").json()
            return dict(answer.json())

        assert seen()["active"] is None
        assert [v["stage"] for v in seen()["versions"]] == ["shadow", "shadow"]  # type: ignore[attr-defined]

        def policy() -> str:
            return str(gateway.ask("Hi").headers["x-routing-policy-version"])

        before = policy()
        for version in (first, second):
            answer = operator.ask("POST", "/learning/promote", json={"id": version})
            assert answer.status_code == 200
            assert answer.json() == seen()
            assert answer.json()["active"]["id"] == version
            wait_until(lambda: policy() != before, limit_s=5)  # noqa: B023
            before = policy()
        answer = operator.ask("POST", "/learning/rollback", json={"id": first})
        assert answer.json()["active"]["id"] == first
        wait_until(lambda: policy() != before, limit_s=5)
        assert {v["id"]: v["stage"] for v in answer.json()["versions"]} == {
            first: "promoted",
            second: "rolled_back",
        }
        answer = operator.ask("POST", "/learning/reject", json={"id": second})
        assert answer.json()["versions"][1]["stage"] == "rejected"

        for action, body, status, param in (
            ("promote", {"id": first}, 400, "id"),
            ("reject", {"id": first}, 400, "id"),
            ("rollback", {"id": "nobody"}, 404, "id"),
            ("promote", {}, 400, None),
        ):
            refused = operator.ask("POST", f"/learning/{action}", json=body)
            assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
        assert Operator(section["port"], key="x").ask("GET", "/learning").status_code == 401


def test_without_the_section_nothing_is_learnt(tmp_path: Path) -> None:
    section = admin(tmp_path)
    with running_gateway(tmp_path, admin=section) as gateway:
        shown = httpx2.get(f"{gateway.url}/console/api/learning", trust_env=False).json()
        assert shown == {"enabled": False, "active": None, "versions": [], "last_step": None}
        answer = Operator(section["port"]).ask("POST", "/learning/promote", json={"id": "a"})
        assert answer.json()["error"]["code"] == "learning_not_configured"
