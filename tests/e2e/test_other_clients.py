"""openai-node and curl work unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.demo_process import Demo

NODE = Path(sys.executable).with_name("node")
SCRIPT = Path(__file__).parent / "node" / "client.mjs"


def test_openai_node(demo: Demo) -> None:
    done = subprocess.run(
        [NODE, SCRIPT, f"{demo.url}/v1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["text"]
    assert seen["streamed"]
    assert seen["model"] == seen["header"] == "smollm2-135m-math"
    assert seen["usage"]["completion_tokens"] > 0
    assert seen["error"] == {
        "name": "NotFoundError",
        "code": "model_not_found",
        "type": "invalid_request_error",
        "param": "model",
    }
    assert "auto" in seen["models"]


def test_curl(demo: Demo) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "curl is part of what this suite proves: install it"
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    done = subprocess.run(
        [
            *(curl, "--silent", "--no-buffer", f"{demo.url}/v1/chat/completions"),
            *("-H", "content-type: application/json", "-d", json.dumps({**body, "stream": True})),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    events = [e.removeprefix("data: ") for e in done.stdout.strip().split("\n\n")]
    assert events[-1] == "[DONE]"
    assert events.count("[DONE]") == 1
    assert all(json.loads(e)["object"] == "chat.completion.chunk" for e in events[:-1])
