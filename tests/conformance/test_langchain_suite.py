"""LangChain's standard tests of a chat model pass through the gateway as they do at the backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import parse_config
from tests.conformance.obliging import obliges
from tests.conformance.suite import run_suite
from tests.fakes.backend import scripted_backend
from tests.faults.conftest import gateway_of

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]
SUITE = Path(__file__).with_name("langchain_standard.py")
#: ChatOpenAI keeps its client, and with it an event loop, from one test to the next.
ONE_LOOP = ("-o", "asyncio_default_test_loop_scope=session")
CAPABILITIES = ["tools", "json_schema", "vision"]


async def test_langchains_standard_tests_lose_nothing(tmp_path: Path) -> None:
    async with scripted_backend() as backend:
        backend.will(obliges)
        model = {"backends": [{"url": backend.url}], "capabilities": CAPABILITIES}
        document = {
            "models": {"model": model, "other-model": model},
            "router": {"artifact": "none"},
        }
        async with gateway_of(parse_config(document, "the suite")) as (_, port):
            directly = await run_suite(
                [str(SUITE)],
                SUITE.parents[2],
                {"TEST_API_BASE_URL": backend.url},
                tmp_path / "directly.xml",
                *ONE_LOOP,
            )
            asked = len(backend.requests)
            through = await run_suite(
                [str(SUITE)],
                SUITE.parents[2],
                {"TEST_API_BASE_URL": f"http://127.0.0.1:{port}/v1"},
                tmp_path / "through.xml",
                *ONE_LOOP,
            )
            assert len(backend.requests) == 2 * asked, "a request was lost, or asked for twice"
    print(f"passed directly {len(directly.passed)}, through {len(through.passed)}")
    assert directly.lost(through) == {}
    assert directly.failed == {}, "the backend of this test does not do as told"
    assert len(directly.passed) >= 40
