"""Every query of every panel and rule, asked of a real Prometheus that scrapes a real gateway.

``pytest -m prometheus``; needs ``prometheus`` and ``promtool`` (Debian's package prometheus).
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from deploy.grafana.generate import FOLDER
from tests.demo_process import free_port
from tests.deploy.gateway_process import (
    THALAMUS,
    GatewayProcess,
    answering_backend,
    running_gateway,
)
from tests.deploy.test_reload import wait_until

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(300)]

PROMETHEUS = Path(__file__).parents[2] / "deploy/prometheus"
LIBRARY = Path(__file__).parents[2] / "router_models/datasets/expert_library.parquet"
#: Prompts of each split that are learnt from and judged on: enough for a router, and quick.
OF_EACH_SPLIT = 150
LEARNING_EVERY_S = 10
#: What Grafana puts in place of its variables.
VARIABLES = {
    "$__rate_interval": "10s",
    "$__range": "1m",
    "$model": ".*",
    "$backend": ".*",
}


def panel_queries() -> Iterator[tuple[str, str]]:
    """The name of each panel, and each query on it."""
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text())
        panels = [p for row in board["panels"] for p in (row, *row.get("panels", ()))]
        for panel in panels:
            for target in panel.get("targets", ()):
                query = target["expr"]
                for variable, value in VARIABLES.items():
                    query = query.replace(variable, value)
                yield f"{path.stem}: {panel['title']}", query


def rule_queries() -> Iterator[tuple[str, str]]:
    """Each rule, with its comparisons as numbers: an alert that is silent has data all the same."""
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        query = rule["expr"]
        if "alert" in rule:
            query = re.sub(r" (==|>|<) ", r" \1 bool ", query)
        yield rule.get("alert") or rule["record"], query


@contextmanager
def running_prometheus(folder: Path, *targets: str) -> Iterator[str]:
    """A Prometheus with our rules and our configuration, but for the target and the pace."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = ["rules.yml"]
    job = config["scrape_configs"][0]
    del job["dns_sd_configs"]  # no name server here
    job["static_configs"] = [{"targets": list(targets)}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    for group in rules["groups"]:
        group.pop("interval", None)
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    address = f"127.0.0.1:{free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stderr=sink,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


def series(prometheus: str, query: str) -> list[dict[str, Any]]:
    """The series that a query finds now; none while Prometheus starts."""
    url = f"{prometheus}/api/v1/query"
    try:
        answer = httpx2.get(url, params={"query": query}, trust_env=False, timeout=10)
    except httpx2.TransportError:
        return []
    document = answer.json()
    assert document["status"] == "success", f"{query}: {document['error']}"
    found: list[dict[str, Any]] = document["data"]["result"]
    return found


def has_data(prometheus: str, query: str) -> bool:
    return any(math.isfinite(float(s["value"][1])) for s in series(prometheus, query))


def one_of_each(gateway: GatewayProcess) -> None:
    """Answers, streams, a fallback, a broken stream, a refusal, and what no model can honour."""
    assert gateway.ask("Hi").status_code == 200
    assert gateway.ask("Hi", stream=True).status_code == 200
    assert gateway.ask("Hi", routing={"objective": "cheap"}).status_code == 200
    assert gateway.ask("refuse").headers["x-routing-model"] == "small"
    assert gateway.ask("Hi", routing={"cascade": True}).status_code == 200
    for _ in range(2):
        assert '"error"' in gateway.ask("break", stream=True).text
    assert gateway.ask("Hi", routing={"max_cost_usd": 0}).status_code == 422
    assert gateway.ask("Hi", routing={"colour": "red"}).status_code == 400
    request_id = gateway.ask("Hi").headers["x-request-id"]
    assert gateway.score(request_id, 0.8).status_code == 200


@contextmanager
def keyed_gateway(folder: Path) -> Iterator[tuple[GatewayProcess, str]]:
    """A gateway with a trained router, which learns, and a key that has a budget; and the key.

    Its backend speaks of itself as vLLM did before.
    """
    keys = folder / "keys.db"
    made = subprocess.run(
        [THALAMUS, "keys", "--file", keys, "create", "me", "--budget-usd-per-day", "5"],
        capture_output=True,
        text=True,
        check=True,
    )
    more = {
        "auth": {"mode": "keys", "keys": str(keys)},
        "router": {"artifact": "default"},
        "decision_log": {"path": str(folder / "decisions.jsonl"), "prompts": True},
        "learning": {"folder": str(folder / "learning"), "data": [str(few_outcomes(folder))]},
    }
    with (
        answering_backend(is_old=True) as backend,
        running_gateway(folder, backend=backend, **more) as gateway,
        learning_beside(folder),
    ):
        yield gateway, made.stdout.strip()


def few_outcomes(folder: Path) -> Path:
    """Some of what the shipped experts were measured at, which are models that no gateway here has."""
    table = pq.read_table(LIBRARY)
    of_split = [[r for r in table.to_pylist() if r["split"] == split] for split in ("train", "val")]
    rows = [row for rows in of_split for row in rows[: 5 * OF_EACH_SPLIT]]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "measured.parquet")
    return folder / "measured.parquet"


@contextmanager
def learning_beside(folder: Path) -> Iterator[None]:
    """`thalamus learn` as it runs beside a gateway."""
    config, every = folder / "thalamus.yaml", str(LEARNING_EVERY_S)
    words = [THALAMUS, "learn", "--config", config, "run", "--every", every]
    with (folder / "learn.log").open("wb") as sink, subprocess.Popen(words, stdout=sink) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def steady_traffic(gateway: GatewayProcess, keyed: GatewayProcess, key: str) -> Iterator[None]:
    """One of each, again and again beside what is asked: rates look back ten seconds only."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.2):
            one_of_each(gateway)
            answer = keyed.ask("Hi", key, routing={"router": "ensemble"})
            assert answer.status_code == 200
            assert keyed.score(answer.headers["x-request-id"], 0.8, key).status_code == 200

    with ThreadPoolExecutor(1) as asking:
        traffic = asking.submit(ask)
        try:
            yield
        finally:
            is_over.set()
        traffic.result()


def check_the_scatter(prometheus: str) -> None:
    """On the chart of the router and its baselines everybody stands where the prices put them."""
    title = "The router, its baselines, and each model alone"
    cost, quality = [query for name, query in panel_queries() if name.endswith(title)]
    found = {}
    for name, query in (("cost", cost), ("quality", quality)):
        found[name] = {s["metric"]["who"]: float(s["value"][1]) for s in series(prometheus, query)}
        assert set(found[name]) == {
            "the router", "always_best", "always_cheapest", "random", "always large", "always small",
        }  # fmt: skip
    at = found["cost"]
    assert at["always_best"] == pytest.approx(at["always large"], rel=0.2)
    assert at["always_cheapest"] == pytest.approx(at["always small"], rel=0.2)
    assert at["always small"] < at["the router"] <= at["always large"] * 1.2
    assert at["random"] == pytest.approx((at["always large"] + at["always small"]) / 2, rel=0.2)
    assert found["quality"]["always_best"] == pytest.approx(0.9, abs=0.05)
    assert found["quality"]["always small"] == pytest.approx(0.6, abs=0.05)


def check_what_servers_say(prometheus: str, *instances: str) -> None:
    """What the backends count is shown, whichever way they spell it."""
    expected = {"prefix_hit_tokens": 6, "preemptions": 0.25, "queue_seconds": 0.5}
    queried = {"prefix_hit_tokens": "prefix_queried_tokens"}
    for instance in instances:
        for kind, of_each in expected.items():
            found = {}
            for name in (kind, queried.get(kind, "queued_requests")):
                match = f'instance="{instance}", kind="{name}", model="large"'
                (told,) = series(prometheus, f"thalamus_backend_totals{{{match}}}")
                found[name] = float(told["value"][1])
            counted, of = found.values()
            each = 10 if kind in queried else 1
            assert counted / of == pytest.approx(of_each / each)
            assert of > 0


def check_the_learning(prometheus: str) -> None:
    """The boards tell what the learner read, and what it made of it."""

    def told(metric: str, label: str, match: str = "") -> dict[str, float]:
        found = series(prometheus, f"thalamus_learning_{metric}{{{match}}}")
        return {s["metric"].get(label, ""): float(s["value"][1]) for s in found}

    assert told("prompts", "source")["measured"] == 2 * OF_EACH_SPLIT
    measured = told("labels", "model", 'source="measured"')
    assert measured == {"large": 0, "small": 0, "other": 5 * 2 * OF_EACH_SPLIT}
    # A step may have read the log before the large model was asked.
    wait_until(
        lambda: told("labels", "model", 'source="log"')["large"] > 0, limit_s=3 * LEARNING_EVERY_S
    )
    stages = told("versions", "stage")
    assert stages.pop("promoted") == 1, "what served when learning began"
    assert sum(stages.values()) == 1, "and what was learnt"
    gain = told("gain", "bound")
    assert -1 < gain["low"] <= gain["mean"] <= gain["high"] < 1
    assert told("step_every_seconds", "") == {"": LEARNING_EVERY_S}
    since_s = time.time() - told("last_step_timestamp_seconds", "result")["ok"]
    assert 0 < since_s < 60
    assert not series(prometheus, 'ALERTS{alertname="ThalamusLearningStalled"}')


def test_promtool_accepts_the_rules_and_sees_each_alert_fire() -> None:
    for words in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            ["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    syntax = ["promtool", "check", "config", "--syntax-only", "prometheus.yml"]
    subprocess.run(syntax, cwd=PROMETHEUS, check=True, capture_output=True)


def test_every_query_returns_data(tmp_path: Path) -> None:
    queries = [*panel_queries(), *rule_queries()]
    assert len(queries) > 70
    judged = {
        "decision_log": {"path": str(tmp_path / "decisions.jsonl")},
        "policies": {"shadow": {"objective": "cheap"}},
    }
    (folder := tmp_path / "keyed").mkdir()
    with (
        running_gateway(tmp_path, workers=2, **judged) as gateway,
        keyed_gateway(folder) as (keyed, key),
        running_prometheus(
            tmp_path, *(targets := [f"127.0.0.1:{g.port}" for g in (gateway, keyed)])
        ) as prometheus,
    ):
        with steady_traffic(gateway, keyed, key):
            deadline_s = time.monotonic() + 90
            silent = queries
            while silent and time.monotonic() < deadline_s:
                time.sleep(0.5)
                silent = [
                    (name, query) for name, query in silent if not has_data(prometheus, query)
                ]
        assert not silent

        # Numbers, not only data: what Prometheus says is what the clients saw.
        assert series(prometheus, "sum(thalamus_infeasible_total)")
        assert series(prometheus, 'thalamus_stream_aborts_total{side="backend"} > 0')
        assert series(prometheus, "sum(thalamus_fallbacks_total) > 0")
        assert series(prometheus, 'ALERTS{alertname="ThalamusErrorsFast", alertstate="firing"}')
        assert not series(prometheus, 'ALERTS{alertname="ThalamusModelGone"}')
        budget = series(prometheus, 'thalamus_budget_remaining_usd{period="day"}')
        assert 0 < float(budget[0]["value"][1]) < 5
        for _ in range(10):  # each model alone is counted for one request in eight
            one_of_each(gateway)
        time.sleep(2)  # until it is scraped
        check_the_scatter(prometheus)
        check_what_servers_say(prometheus, *targets)
        check_the_learning(prometheus)
