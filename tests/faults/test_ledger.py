"""The ledger on disk: one row for every request, whatever happens to the request or to the disk."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.cli import main
from gateway.ledger import book
from gateway.ledger.book import LedgerBook
from gateway.ledger.usage_report import usage_of
from gateway.upstream import watch
from gateway.upstream.watch import Reconciliation
from tests.deploy.gateway_process import running_gateway
from tests.fakes.backend import (
    STREAM_HEAD,
    WHOLE,
    chunked,
    completion,
    event,
    json_answer,
    says,
    streams,
    then_resets,
)
from tests.faults.conftest import Stage, eventually, stage_with


def rows_in(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM requests ORDER BY at_s")]


def kept(path: Path) -> dict[str, Any]:
    return {"state": {"ledger": str(path)}}


async def test_each_request_leaves_the_row_that_was_settled(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with stage_with(extra=kept(path), first_token_s=0.5) as stage:
        stage.first.will(
            says(completion()),
            streams(*WHOLE),
            says(json_answer({"error": {"message": "no"}}, 400)),
            then_resets(STREAM_HEAD + chunked(event("one"))),
        )
        assert (await stage.ask(model="first")).status_code == 200
        await stage.stream(model="first")
        assert (await stage.ask(model="first")).status_code == 400
        await stage.stream(model="first")
        settled = list(stage.parts.ledger.recent)
    rows = rows_in(path)
    assert len(rows) == 4
    assert [r["decision_id"] for r in rows] == [r.decision_id for r in settled]
    assert [r["outcome"] for r in rows] == ["ok", "ok", "error", "error"]
    assert [r["is_estimated"] for r in rows] == [0, 0, 1, 1]
    for row, live in zip(rows, settled, strict=True):
        assert row["cost_nanos"] == live.cost_nanos
        assert row["prompt_tokens"] == live.usage.prompt_tokens
        assert row["error_code"] == live.error_code


async def test_usage_is_added_up_for_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger.db"
    async with stage_with(extra=kept(path)) as stage:
        stage.first.will(says(completion()))
        stage.second.will(says(completion()))
        for model in ("first", "first", "second"):
            await stage.ask(model=model)
        cost_nanos = [row.cost_nanos or 0 for row in stage.parts.ledger.recent]
    assert main(["usage", "--file", str(path), "--by", "model", "--by", "day", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert [line["group"] for line in lines] == [
        {"model": "first", "day": today},
        {"model": "second", "day": today},
    ]
    assert [line["requests"] for line in lines] == [2, 1]
    assert lines[0]["cost_usd"] == pytest.approx(sum(cost_nanos[:2]) / 1e9)
    assert main(["usage", "--file", str(path)]) == 0
    assert "anonymous" in capsys.readouterr().out
    assert main(["usage", "--file", str(path), "--until", "2020-01-01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["usage", "--file", str(tmp_path / "none.db")]) == 1
    assert "there is no ledger at" in capsys.readouterr().err


async def test_while_the_disk_fails_rows_wait_and_none_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "ledger.db"
    async with stage_with(extra=kept(path)) as stage:
        stage.first.will(says(completion()))
        await stage.ask(model="first")
        await eventually(lambda: path.is_file() and len(rows_in(path)) == 1, 3)
        path.rename(tmp_path / "away.db")
        path.mkdir()
        for _ in range(5):
            assert (await stage.ask(model="first")).status_code == 200
        await asyncio.sleep(1.2)
        path.rmdir()
        (tmp_path / "away.db").rename(path)
        await eventually(lambda: len(rows_in(path)) == 6, 4)
    told = [r.getMessage() for r in caplog.records if "ledger.db" in r.getMessage()]
    assert [("rows wait" in t, "written again" in t) for t in told] == [
        (True, False),
        (False, True),
    ]


def row_of(stage: Stage, number: int) -> Any:
    live = stage.parts.ledger.recent[-1]
    return type(live)(
        **{f: getattr(live, f) for f in live.__struct_fields__} | {"decision_id": f"d{number}"}
    )


async def test_what_does_not_fit_is_counted_and_a_row_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage_with() as stage:
        stage.first.will(says(completion()))
        await stage.ask(model="first")
        rows = [row_of(stage, number) for number in range(12)]
    monkeypatch.setattr(book, "MAX_WAITING", 8)
    monkeypatch.setattr(book, "_CLOSE_S", 0.5)
    path = tmp_path / "ledger.db"
    lost: list[int] = []
    written = LedgerBook(path, lost.append)
    for row in (rows[0], rows[0], rows[1]):
        written.note(row)
    written.close()
    assert [r["decision_id"] for r in rows_in(path)] == ["d0", "d1"]
    assert lost == []

    path.rename(tmp_path / "away.db")
    failing = LedgerBook(path, lost.append)
    path.unlink()
    for beside in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / beside).unlink(missing_ok=True)
    path.mkdir()
    for row in rows:
        failing.note(row)
    await asyncio.to_thread(failing.close)
    assert sum(lost) >= 12 - 8, "never silent"


def test_a_ledger_that_cannot_be_written_is_refused_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "thalamus.yaml"
    config.write_text(
        "models: {m: {backends: [{url: 'http://127.0.0.1:9/v1'}]}}\n"
        f"router: {{artifact: none}}\nstate: {{ledger: {tmp_path}}}\n"
    )
    thalamus = Path(sys.executable).with_name("thalamus")
    found = subprocess.run(
        [thalamus, "serve", "--config", config, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 1
    assert "state.ledger: " in found.stderr + found.stdout


def test_workers_share_a_ledger_and_the_admin_port_adds_it_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with running_gateway(tmp_path, workers=2, **kept(path)) as gateway:
        for number in range(30):
            assert gateway.ask("Hi", stream=bool(number % 2)).status_code == 200
    (line,) = usage_of(path, ["key"])
    assert (line.group, line.requests) == ({"key": "anonymous"}, 30)


def test_the_admin_port_tells_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    secret = tmp_path / "admin-key"
    secret.write_text("s3cret")
    from tests.demo_process import free_port

    port = free_port()
    more = {**kept(path), "admin": {"port": port, "key": f"file:{secret}"}}
    with running_gateway(tmp_path, **more) as gateway:
        assert gateway.ask("Hi").status_code == 200
        url = f"http://127.0.0.1:{port}/admin/usage"
        headers = {"authorization": "Bearer s3cret"}
        deadline_s = time.monotonic() + 5
        found: list[dict[str, Any]] = []
        while not found and time.monotonic() < deadline_s:
            answer = httpx2.get(
                url, params={"by": ["key", "model"]}, headers=headers, trust_env=False
            )
            found = answer.json()["usage"]
        assert found[0]["requests"] == 1
        wrong = httpx2.get(url, params={"by": "x"}, headers=headers, trust_env=False)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "by")


def counted(prompt: int, generated: int) -> str:
    return (
        f'vllm:prompt_tokens_total{{model_name="m"}} {prompt}\n'
        f'vllm:generation_tokens_total{{model_name="m"}} {generated}\n'
        'vllm:num_requests_running{model_name="m"} 0\n'
    )


async def test_the_ledger_is_held_against_the_backends_own_counters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.02)
    monkeypatch.setattr(watch, "SELDOM_S", 0.05)
    async with stage_with() as stage:
        stage.first.metrics = counted(1_000, 500)
        stage.first.will(says(completion()))
        health = stage.parts.catalog.models["first"].backends[0].health
        await eventually(lambda: health.signals is not None, 3)
        for _ in range(10):  # 10 prompt tokens and 4 of the answer each
            assert (await stage.ask(model="first")).status_code == 200
        stage.first.metrics = counted(1_100, 540)
        await eventually(lambda: health.usage_drift == 1.0, 3)
        stage.first.metrics = counted(1_200, 580)  # somebody else asks it, too
        await eventually(lambda: health.usage_drift == 0.5, 3)
        text = (await stage.client.get("/metrics")).text
        assert "thalamus_usage_drift_ratio{" in text


def test_a_server_that_restarts_begins_a_new_account() -> None:
    books = Reconciliation()
    assert books.share(1_000, 50) is None
    assert books.share(1_200, 250) == 1.0
    assert books.share(10, 260) is None
    assert books.share(110, 360) == 1.0


async def test_a_file_of_an_earlier_version_gets_the_columns_that_came_since(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    before = {name: kind for name, kind in book.COLUMNS.items() if name != "resumes"}
    columns = ", ".join(f'"{name}" {kind}' for name, kind in before.items())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"CREATE TABLE requests ({columns})")
        old = ("dec_old", "req_old", 1.0, "ci", "best", *("m", "m", "b", "ok", None, 1))
        db.execute(
            f"INSERT INTO requests VALUES ({', '.join('?' * len(before))})",  # noqa: S608
            (*old, 10, 0, 4, 0, 0, None, None, 5.0),
        )
    async with stage_with(extra=kept(path)) as stage:
        stage.first.will(says(completion()))
        assert (await stage.ask(model="first")).status_code == 200
    assert [(row["request_id"][:4], row["resumes"]) for row in rows_in(path)] == [
        ("req_", 0),
        ("req_", 0),
    ]
