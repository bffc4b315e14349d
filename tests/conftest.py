"""What more than one tier of tests stands on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo_process import Demo, free_port, start_demo, stop_demo


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """One running demo, what `make run` starts, for all tests that only ask it things."""
    running = start_demo(free_port())
    try:
        running.wait_until_ready()
        yield running
    finally:
        stop_demo(running)
