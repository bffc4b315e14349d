"""schemathesis against a running gateway: no 5xx, and nothing that the OpenAPI page does not say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.oracle import answers_well
from tests.faults.conftest import Stage, stage_with

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(900)]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
#: Requests that the runs make together, at least; most are for the operations that take a body.
CASES = int(os.environ.get("SCHEMATHESIS_CASES", "2000"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
#: Names that lead somewhere, so that most requests get past the choice of a model.
MODELS = ["auto", "auto:cheap", "first", "second", "nobody", "router-x-2"]


async def published(stage: Stage) -> dict[str, Any]:
    document: dict[str, Any] = (await stage.client.get("/openapi.json")).json()
    for operations in document["paths"].values():
        for operation in operations.values():
            body = operation.get("requestBody")
            if body is not None:
                schema = body["content"]["application/json"]["schema"]
                if "model" in schema["required"]:
                    schema.setdefault("properties", {})["model"] = {"enum": MODELS}
    return document


@pytest.mark.parametrize(
    "endpoints",
    [
        ("chat", "completions"),
        ("chat", "completions", "embeddings", "responses", "messages"),
    ],
    ids=["over chat", "native"],
)
async def test_the_page_describes_what_is_served(
    tmp_path: Path, endpoints: tuple[str, ...]
) -> None:
    log = {"decision_log": {"path": str(tmp_path / "log.jsonl")}}
    async with stage_with(endpoints=endpoints, extra=log) as stage:
        for backend in (stage.first, stage.second):
            backend.will(answers_well)
        page = tmp_path / "openapi.json"
        page.write_text(json.dumps(await published(stage)))
        done = await asyncio.to_thread(
            subprocess.run,
            [
                SCHEMATHESIS,
                *("run", str(page), "--url", f"http://127.0.0.1:{stage.port}"),
                *("--checks", ",".join(CHECKS), "--max-examples", str(CASES // 12)),
                *("--phases", "coverage,fuzzing", "--seed", "1", "--no-color"),
                *("--suppress-health-check", "all", "--request-timeout", "10"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        (tmp_path / "report.txt").write_text(done.stdout)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        told = re.search(r"(\d+) generated", done.stdout)
        assert told is not None, done.stdout[-2000:]
        assert int(told[1]) >= CASES // 2
        await stage.census()
