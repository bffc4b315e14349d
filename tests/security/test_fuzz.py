"""The fuzz targets on their corpus and on made-up bytes; every crash found once stays in the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.security.fuzz_targets import TARGETS, run_one

CORPUS = Path(__file__).parent / "corpus"
#: What the formats are made of, so that made-up bytes get somewhere.
_TOKENS = [
    *(b'{"', b'":', b",", b"}", b"[", b"]", b"null", b"true", b"1e309", b"-1", b'"\\ud800"'),
    *(b"data: ", b"event: ", b"\n", b"\r", b"\n\n", b"[DONE]", b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"),
    *(b"transfer-encoding: chunked\r\n", b"content-length: 3\r\n", b"model", b"messages", b"input"),
    *(b"usage", b"choices", b"delta", b"tool_calls", b"type", b"response.completed", b"routing"),
]
_BYTES = st.lists(st.sampled_from(_TOKENS) | st.binary(max_size=4), max_size=40).map(b"".join)


@pytest.mark.parametrize("name", TARGETS)
@given(data=_BYTES)
def test_made_up_bytes(name: str, data: bytes) -> None:
    run_one(name, data)


def cases() -> list[Path]:
    return sorted(path for path in CORPUS.rglob("*") if path.is_file())


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in cases()} == set(TARGETS)


@pytest.mark.parametrize("path", cases(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_corpus(path: Path) -> None:
    run_one(path.parent.name, path.read_bytes())
