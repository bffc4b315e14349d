"""The loop with nothing left out: a gateway serves, clients score, a process learns, routing adapts."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.demo_process import THALAMUS
from tests.deploy.gateway_process import GatewayProcess, running_gateway
from tests.deploy.test_reload import wait_until
from tests.unit.gateway.learning.traffic import World, kind_of

#: The gateway's models: by its priors the large one is always better, which is wrong for law.
GOOD = {
    ("code", "large"): 0.9,
    ("code", "small"): 0.1,
    ("law", "large"): 0.1,
    ("law", "small"): 0.9,
}


def ask_and_score(gateway: GatewayProcess, prompts: list[str]) -> None:
    def one(prompt: str) -> None:
        answer = gateway.ask(prompt)
        assert answer.status_code == 200
        score = GOOD[kind_of(prompt), answer.json()["model"]]
        said = {"request_id": answer.headers["x-request-id"], "score": score}
        told = httpx2.post(f"{gateway.url}/v1/feedback", json=said, trust_env=False, timeout=10)
        assert told.json()["known"]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, prompts))


def learn(folder: Path) -> str:
    command = [THALAMUS, "learn", "--config", folder / "thalamus.yaml", "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_a_gateway_learns_from_what_its_clients_say(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world")  # for its prompts
    settings = {
        "decision_log": {"path": str(tmp_path / "d.jsonl"), "prompts": True, "keep_days": 7},
        "policies": {"live": {"exploration": {"share": 0.5}}},
        "learning": {
            "folder": str(tmp_path / "learning"),
            "min_scored": 150,
            "min_shadow": 60,
        },
    }
    with running_gateway(tmp_path, **settings) as gateway:
        ask_and_score(gateway, [world.prompt() for _ in range(360)])
        wait_until(lambda: (tmp_path / "d.jsonl").read_bytes().count(b"\n") == 720)
        assert " is shadow: better: +0." in learn(tmp_path)
        assert " in shadow, 0 scored of 60" in learn(tmp_path)
        ask_and_score(gateway, [world.prompt() for _ in range(180)])
        wait_until(lambda: (tmp_path / "d.jsonl").read_bytes().count(b"\n") == 1080)
        assert " is promoted: confirmed in shadow: +0." in learn(tmp_path)

        def chosen(prompt: str) -> str:
            body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
            told = httpx2.post(f"{gateway.url}/v1/route", json=body, trust_env=False, timeout=10)
            candidates = told.json()["candidates"]
            return str(max(candidates, key=lambda c: c["predicted_quality"])["model"])

        law, code = "the court heard the appeal of the plaintiff", "return a list in a python loop"
        wait_until(lambda: chosen(law) == "small", limit_s=10)
        assert chosen(code) == "large"
        shown = httpx2.get(f"{gateway.url}/console/api/learning", trust_env=False).json()
        assert [v["stage"] for v in shown["versions"]] == ["promoted"]
        assert shown["active"]["metrics"]["difference_low"] > 0
