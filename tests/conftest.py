"""What more than one tier of tests stands on; some tiers have nothing of the gateway's installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.demo_process import Demo


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """One running demo, what `make run` starts, for all tests that only ask it things."""
    from tests.demo_process import free_port, start_demo, stop_demo

    running = start_demo(free_port())
    try:
        running.wait_until_ready()
        yield running
    finally:
        stop_demo(running)
