"""A vLLM server's words, recorded, as models, adapters, experts' work and a configuration."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from gateway.cli import main
from gateway.config import parse_config
from gateway.errors import BadUpstreamAnswer
from gateway.upstream.discovery import parse_models

MODELS = {
    "object": "list",
    "data": [
        {"id": "qwen", "object": "model", "max_model_len": 32768, "parent": None},
        {"id": "poet", "object": "model", "max_model_len": None, "parent": "qwen"},
    ],
}
METRICS = r"""# HELP vllm:lora_requests_info Running stats on lora requests.
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="poet,clerk",waiting_lora_adapters="b"} 2e9
thalamus_moe_calls_total{layer="0",worker="0"} 10.0
thalamus_moe_calls_total{layer="1",worker="0"} 10.0
thalamus_moe_calls_created{layer="1",worker="0"} 1.8e9
thalamus_moe_tokens_total{layer="0",worker="0"} 50.0
thalamus_moe_tokens_total{layer="1",worker="0"} 50.0
thalamus_moe_slots_total{layer="0",worker="0"} 100.0
thalamus_moe_slots_not_computed_total{layer="0",worker="0"} 25.0
thalamus_moe_distinct_experts_total{layer="0",worker="0"} 40.0
thalamus_moe_busiest_expert_share{layer="0",worker="0"} 0.25
thalamus_moe_busiest_expert_share{layer="1",worker="0"} 0.5
"""


def test_an_adapter_has_a_parent_and_its_context() -> None:
    base, adapter = parse_models(json.dumps(MODELS).encode())
    assert (base.name, base.parent, base.context_tokens) == ("qwen", None, 32768)
    assert (adapter.name, adapter.parent, adapter.context_tokens) == ("poet", "qwen", 32768)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": [1]}', b'{"data": [{}]}', b"<html>"])
def test_what_is_no_list_of_models_is_an_upstream_error(body: bytes) -> None:
    with pytest.raises(BadUpstreamAnswer, match="not a list of models"):
        parse_models(body)


@contextmanager
def server(metrics: bytes | None) -> Iterator[str]:
    """The recorded answers behind a socket."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(MODELS).encode() if head.startswith(b"GET /v1/models ") else metrics
        status = b"404 Not Found" if body is None else b"200 OK"
        body = body or b""
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.mark.parametrize("metrics", [METRICS.encode(), None])
def test_discover_writes_a_configuration_that_is_taken(
    metrics: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(metrics) as one, server(metrics) as other:
        assert main(["discover", one, other]) == 0
    printed = capsys.readouterr().out
    config = parse_config(yaml.safe_load(printed), "discovered")
    assert set(config.models) == {"qwen", "poet"}
    for model in config.models.values():
        assert [backend.address for backend in model.backends] == [one, other]
        assert model.context_tokens == 32768
    assert "poet is an adapter of qwen" in printed
    assert ("adapters at work: clerk, poet" in printed) == (metrics is not None)
    assert ("25 of 100 slots not computed" in printed) == (metrics is not None)


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:9/v1"])
def test_a_server_that_is_not_there_is_one_line(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["discover", url]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"thalamus: {url}: ")
    assert said.err.count("\n") == 1
