from collections.abc import Callable
from dataclasses import replace

import pytest

from policies.types import Candidate

_ORDINARY = Candidate(
    model="m",
    quality=0.5,
    quality_low=0.4,
    quality_high=0.6,
    cost_usd=0.01,
    output_tokens=100.0,
    ttft_ms=100.0,
    latency_ms=1000.0,
)


@pytest.fixture(scope="session")
def candidate() -> Callable[..., Candidate]:
    """Build an ordinary candidate of a given name, apart from what is said of it."""

    def build(model: str, **values: object) -> Candidate:
        return replace(_ORDINARY, model=model, **values)

    return build
