"""The console in Debian's Chromium, on a real demo, and on a gateway with keys before its engine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml

from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.demo_process import THALAMUS, Demo, free_port
from tests.deploy.gateway_process import GatewayProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Without the group `console` there is nothing to collect, which `pytest -m console` calls a failure.
collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]

APP = Path(__file__).parents[2] / "gateway" / "console" / "app"
NPM = Path(sys.executable).with_name("npm")
DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}
ADMIN_KEY = "an-admin-key-that-no-page-may-keep"
#: USD per million tokens in and out, and a day of release: made up, so that something can be weighed.
MADE_UP = {
    "smollm2-135m": (0.02, 0.04, "2024-10-31"),
    "smollm2-135m-code": (0.3, 1.2, "2026-03-01"),
    "smollm2-135m-math": (0.6, 2.4, "2026-06-01"),
    "smollm2-135m-clinical": (0.15, 0.6, "2025-11-01"),
    "smollm2-135m-patents": (0.05, 0.2, "2025-02-01"),
}


@dataclass(frozen=True)
class Operated:
    """A gateway as an operator runs it: keys, an admin port, prices, a decision log."""

    url: str
    admin_url: str
    key: str
    log: Path


@pytest.fixture(scope="session")
def operated(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with serve_operated(demo, tmp_path_factory.mktemp("operated")) as served:
        yield served


@contextmanager
def serve_operated(demo: Demo, folder: Path, **sections: Any) -> Iterator[Operated]:
    """Serve the demo's models from a configuration of this folder, with these sections besides."""
    (folder / "admin.key").write_text(ADMIN_KEY + "\n")
    token, key = make_key("the reader", KeyPolicy(), time.time())
    KeyFile(folder / "keys.db").add(key)
    port, admin_port = free_port(), free_port()
    document = {
        "server": {"port": port},
        "auth": {"mode": "keys", "keys": str(folder / "keys.db")},
        "admin": {"port": admin_port, "key": f"file:{folder / 'admin.key'}"},
        "decision_log": {"path": str(folder / "decisions.jsonl")},
        "state": {"ledger": str(folder / "ledger.db")},
        "models": _priced(demo),
        **sections,
    }
    (folder / "thalamus.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    url = f"http://127.0.0.1:{port}"
    with _serving(folder, port):
        yield Operated(url, f"http://127.0.0.1:{admin_port}", token, folder / "decisions.jsonl")


def _priced(demo: Demo) -> dict[str, Any]:
    """The demo's models at its own engine, for money."""
    config = httpx2.get(f"{demo.url}/console/api/config", trust_env=False).json()["config"]
    models = {}
    for name, (read, written, released) in MADE_UP.items():
        backend = config["models"][name]["backends"][0]
        models[name] = {
            "backends": [
                {
                    "url": backend["url"],
                    "name": "embedded-engine",
                    "extra_body": backend["extra_body"],
                }
            ],
            "price_usd_per_mtok": {"input": read, "output": written},
            "context_tokens": config["models"][name]["context_tokens"],
            # An adapter of rank 8 adds half a million.
            "parameters_b": 0.1345 if name == "smollm2-135m" else 0.135,
            "released": released,
            "security_level": 3,
        }
    return models


@contextmanager
def _serving(folder: Path, port: int) -> Iterator[None]:
    log = folder / "gateway.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [THALAMUS, "serve", "--config", folder / "thalamus.yaml"],
            stdout=sink,
            stderr=sink,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        )
    try:
        GatewayProcess(process, port, log).wait_until_ready()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)


@pytest.fixture(scope="session")
def app_modules() -> Path:
    """The app's dependencies exactly as locked, installed beside its sources."""
    subprocess.run(
        [NPM, "ci", "--silent", "--prefix", APP],
        check=True,
        timeout=100,
        env={**os.environ, "PATH": f"{NPM.parent}:{os.environ['PATH']}"},
    )
    return APP / "node_modules"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
    chromium = shutil.which("chromium")
    assert chromium is not None, "these tests need Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages; at the end none of them may have reported anything wrong."""
    troubles: list[str] = []
    contexts = []

    def open_one(url: str, key: str = "", **options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": DESKTOP, "permissions": ["clipboard-read", "clipboard-write"], **options}
        )
        contexts.append(context)
        if key:
            context.add_init_script(f"sessionStorage.setItem('thalamus-key', '{key}')")
        page = context.new_page()
        page.set_default_timeout(8_000)
        page.on("pageerror", lambda error: troubles.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda message: (
                troubles.append(f"{page.url}: {message.text}")
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.on("request", lambda r: troubles.append(r.url) if not _is_own(r.url) else None)
        page.goto(url)
        return page

    open_one.troubles = troubles  # type: ignore[attr-defined]
    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


def _is_own(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))
