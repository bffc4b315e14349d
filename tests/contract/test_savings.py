"""The report of savings on the log of a real gateway, with scores that clients gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from tests.fakes.backend import completion, says
from tests.faults.conftest import stage_with


async def test_a_gateways_log_says_what_its_routing_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "decisions.jsonl"
    cheap = {"price_usd_per_mtok": {"input": 0.1, "output": 0.2}}
    async with stage_with(extra={"decision_log": {"path": str(path)}}, second=cheap) as stage:
        stage.first.will(says(completion()))
        stage.second.will(says(completion()))
        for objective in ["cheap"] * 3 + ["best"]:
            answer = await stage.ask(routing={"objective": objective})
            body = {"request_id": answer.headers["x-request-id"], "score": 0.5}
            assert (await stage.client.post("/v1/feedback", json=body)).status_code == 200
        rows = list(stage.parts.ledger.recent)
    capsys.readouterr()
    assert main(["savings", "--log", str(path), "--json"]) == 0
    saved = json.loads(capsys.readouterr().out)
    assert (saved["decisions"], saved["compared"]) == (4, 4)
    paid_usd = sum(row.cost_nanos or 0 for row in rows) / 1e9
    assert saved["paid_usd"] == pytest.approx(paid_usd)
    best = saved["alternatives"][0]
    # The same words at a tenth of the price, three times of four.
    assert best["saved_share"]["value"] == pytest.approx(1 - (3 * 0.1 + 1) / 4, rel=0.02)
    scored = {check["model"]: check["realised"] for check in saved["quality_checks"]}
    assert scored == {"first": 0.5, "second": 0.5}
