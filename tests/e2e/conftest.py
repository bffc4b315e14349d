"""A client of the running demo."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.demo_process import Demo


@pytest.fixture(scope="session")
def api(demo: Demo) -> Iterator[httpx2.Client]:
    """A plain HTTP client of the running demo."""
    with httpx2.Client(base_url=f"{demo.url}/v1", timeout=60, trust_env=False) as client:
        yield client
