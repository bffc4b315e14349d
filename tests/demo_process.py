"""The real thing: ``thalamus demo`` as a user starts it, with real models behind it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2
import pytest

THALAMUS = Path(sys.executable).with_name("thalamus")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Demo:
    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]
    """All it said; a file, since a pipe that nobody reads fills up and stops whoever writes."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, limit_s: float = 30) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"the demo ended: {self.said()}")
            try:
                if httpx2.get(f"{self.url}/health/ready", trust_env=False).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
        pytest.fail("the demo was not ready in time")

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()


def start_demo(port: int) -> Demo:
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop_demo
    process = subprocess.Popen(
        [THALAMUS, "demo", "--port", str(port)],
        stdout=log,
        stderr=log,
        # A home with nothing in it: no cache, no credentials, no settings may be needed.
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
    return Demo(process, port, log)


def stop_demo(demo: Demo) -> None:
    if demo.process.poll() is None:
        demo.process.send_signal(signal.SIGINT)
    demo.process.wait(timeout=20)
    demo.log.close()
