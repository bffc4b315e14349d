"""openai-python's own test-suite passes through the gateway as it does at the backend itself.

The tests come with the SDK's source distribution, of the version and with the hash that ``uv.lock``
names. They check every method's request and answer in each of the SDK's client modes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.config import parse_config
from tests.conformance.suite import run_suite
from tests.fakes.backend import scripted_backend
from tests.fakes.oracle import answers_well
from tests.faults.conftest import gateway_of

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]
LOCK = Path(__file__).parents[2] / "uv.lock"
#: One for each API that the gateway serves.
SUITES = (
    "api_resources/chat/test_completions.py",
    "api_resources/test_completions.py",
    "api_resources/test_embeddings.py",
    "api_resources/test_models.py",
    "api_resources/test_responses.py",
)
APIS = ("chat", "completions", "embeddings", "responses")
_MODEL = re.compile(r'model="([^"]+)"')


def locked_openai() -> dict[str, Any]:
    packages: list[dict[str, Any]] = tomllib.loads(LOCK.read_text())["package"]
    return next(package for package in packages if package["name"] == "openai")


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdk")
    package = locked_openai()
    wanted = folder / "wanted.txt"
    wanted.write_text(f"openai=={package['version']} --hash={package['sdist']['hash']}\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-binary", "openai", "--require-hashes", "-r", wanted),
        ],
        cwd=folder,
        check=True,
    )
    with tarfile.open(next(folder.glob("openai-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("openai-*/"))


async def test_openai_pythons_own_tests_lose_nothing(sdk: Path, tmp_path: Path) -> None:
    suites = [f"tests/{suite}" for suite in SUITES]
    names = {name for suite in suites for name in _MODEL.findall((sdk / suite).read_text())}
    async with scripted_backend() as backend:
        backend.will(answers_well)
        backend.models = ["model"]
        model = {"backends": [{"url": backend.url}], "endpoints": list(APIS)}
        served = {name: model for name in sorted(names | {"model"})}
        document = {"models": served, "router": {"artifact": "none"}}
        async with gateway_of(parse_config(document, "the suite")) as (_, port):
            directly = await run_suite(
                suites, sdk, {"TEST_API_BASE_URL": backend.url}, tmp_path / "directly.xml"
            )
            asked = len(backend.requests)
            address = f"http://127.0.0.1:{port}/v1"
            through = await run_suite(
                suites, sdk, {"TEST_API_BASE_URL": address}, tmp_path / "through.xml"
            )
            assert len(backend.requests) > asked, "the second run never reached the backend"
    print(f"passed directly {len(directly.passed)}, through {len(through.passed)}")
    assert directly.lost(through) == {}
    assert len(directly.passed) >= 100
