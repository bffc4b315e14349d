"""Start the embedded engine beside the gateway and make sure that it ends with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import ConfigError

END_S = 5


@contextmanager
def engine_running(adapters: Sequence[Path]) -> Iterator[str]:
    """Run the engine for the duration of the block and give its address, ``http://127.0.0.1:PORT``.

    Raises ConfigError when it does not start. The engine ends when this process does, even if it is
    killed: it watches the pipe that only this process holds open.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module, our own paths
        [sys.executable, "-m", "gateway.embedded.engine", *map(str, adapters)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield _read_address(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read_address(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None  # noqa: S101 - opened as a pipe above
    line = process.stdout.readline()
    if not line:
        code = process.wait(END_S)
        raise ConfigError(f"the embedded engine ended with status {code} before it was ready")
    return str(json.loads(line)["address"])
