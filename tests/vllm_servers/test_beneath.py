"""What a real vLLM tells besides answers: its spans beneath ours, likelihoods, what it has counted."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest

from gateway.cli import main
from tests.fakes.collector import FakeCollector, SeenSpan, fake_collector
from tests.vllm_servers.servers import Server, gateway, vllm_server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
#: Four prompts with references, and what torch found their loss to be.
EXAMPLES = ROOT / "tests" / "data" / "domain_examples.parquet"
MEASURED = ROOT / "router_models" / "datasets" / "expert_library.parquet"
BASE = "smollm2-135m"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Traced:
    vllm: Server
    gateway: Server
    collector: FakeCollector


@pytest.fixture(scope="module")
def traced(
    vllm_python: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traced]:
    """A vLLM that sends its traces to where the gateway before it does.

    Without LoRA: with it, vLLM 0.32 on the CPU ends when it is asked for prompt_logprobs.
    """
    folder = tmp_path_factory.mktemp("beneath")
    with fake_collector() as collector:
        vllm = vllm_server(
            vllm_python, models / "smollm2", BASE, folder,
            "--otlp-traces-endpoint", f"{collector.url}/v1/traces",
        )  # fmt: skip
        vllm.environment = {
            **vllm.environment,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        vllm.start()
        try:
            vllm.wait_until_ready()
            served = {BASE: {"backends": [{"url": f"{vllm.url}/v1"}]}}
            tracing = {"endpoint": collector.url}
            with gateway(folder, served, tracing=tracing) as running:
                yield Traced(vllm, running, collector)
        finally:
            vllm.end()


def until(found: Callable[[], Any], limit_s: float = 20) -> Any:
    deadline_s = time.monotonic() + limit_s
    while not (value := found()):
        assert time.monotonic() < deadline_s, "it did not come in time"
        time.sleep(0.1)
    return value


def of_trace(collector: FakeCollector, trace_id: str) -> list[SeenSpan]:
    return [span for span in collector.spans if span.trace_id == trace_id]


@pytest.mark.parametrize("stream", [False, True])
def test_vllm_hangs_its_span_beneath_our_try(traced: Traced, stream: bool) -> None:
    trace_id = f"{TRACE[:-1]}{int(stream)}"
    answer = httpx2.post(
        f"{traced.gateway.url}/v1/chat/completions",
        json={"model": BASE, "messages": QUESTION, "max_tokens": 4, "stream": stream},
        headers={"traceparent": f"00-{trace_id}-{SPAN}-01", "tracestate": "congo=t61"},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 200

    def both() -> list[SeenSpan]:
        found = of_trace(traced.collector, trace_id)
        return [s for s in found if s.name == "llm_request" or s.parent_id == SPAN]

    spans = until(lambda: sorted(both(), key=lambda s: s.name) if len(both()) == 2 else None)
    root, theirs = spans
    assert (root.parent_id, root.resource["service.name"]) == (SPAN, "thalamus")
    (attempt,) = [s for s in traced.collector.beneath(root) if s.told.get("server.port")]
    assert theirs.parent_id == attempt.span_id
    assert theirs.raw.trace_state == "congo=t61"
    # One picture: what vLLM says of the request lies within our try of it, and counts the same.
    assert attempt.raw.start_time_unix_nano <= theirs.raw.start_time_unix_nano
    assert theirs.told["gen_ai.usage.completion_tokens"] == 4
    assert theirs.told["gen_ai.usage.prompt_tokens"] == root.told["gen_ai.usage.input_tokens"]
    assert theirs.told["gen_ai.latency.time_in_queue"] >= 0


def test_what_is_not_sampled_leaves_no_span_at_vllm_either(traced: Traced) -> None:
    for sampled, trace_id in ((0, f"{TRACE[:-1]}2"), (1, f"{TRACE[:-1]}3")):
        httpx2.post(
            f"{traced.gateway.url}/v1/chat/completions",
            json={"model": BASE, "messages": QUESTION, "max_tokens": 1},
            headers={"traceparent": f"00-{trace_id}-{SPAN}-0{sampled}"},
            trust_env=False,
            timeout=60,
        ).raise_for_status()
    # Spans come in the order of their requests: when the second's is there, the first's would be.
    until(lambda: [s for s in of_trace(traced.collector, trace_id) if s.name == "llm_request"])
    assert of_trace(traced.collector, f"{TRACE[:-1]}2") == []


def test_likelihoods_of_references_are_what_torch_measured(traced: Traced, tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    words = ["--prompts", str(EXAMPLES), "--out", str(out)]
    words += ["--backends", f"{BASE}={traced.vllm.url}/v1", "--score", "loglik"]
    assert main(["collect", *words, "--concurrency", "4"]) == 0
    labels = pq.read_table(out).to_pylist()
    measured = pq.read_table(MEASURED).to_pylist()
    told = {row["prompt_id"]: row["loss"] for row in measured if row["model"] == BASE}
    assert len(labels) == 4
    for label in labels:
        assert label["loss"] == pytest.approx(told[label["prompt_id"]], abs=0.05)
        assert label["score"] == pytest.approx(math.exp(-label["loss"]))


def test_what_vllm_counts_is_on_our_page(traced: Traced) -> None:
    """The same question twice: the second time its prompt is in the cache."""
    body = {"model": BASE, "messages": [{"role": "user", "content": "Count slowly. " * 40}]}
    for _ in range(3):
        url = f"{traced.gateway.url}/v1/chat/completions"
        httpx2.post(url, json=body | {"max_tokens": 2}, trust_env=False, timeout=60)

    def totals() -> dict[str, float]:
        page = httpx2.get(f"{traced.gateway.url}/metrics", trust_env=False).text
        mine = rf'backend_totals\{{backend="[^"]*",kind="(\w+)",model="{BASE}"\}} (\S+)'
        return {kind: float(value) for kind, value in re.findall(mine, page)}

    told = until(lambda: found if (found := totals()).get("prefix_hit_tokens") else None)
    assert set(told) == {
        "prefix_queried_tokens", "prefix_hit_tokens", "preemptions", "queue_seconds",
        "queued_requests",
    }  # fmt: skip
    assert 100 < told["prefix_hit_tokens"] < told["prefix_queried_tokens"]
    assert told["preemptions"] == 0
    assert told["queued_requests"] >= 3
    assert traced.vllm.metric("vllm:prefix_cache_hits_total") >= told["prefix_hit_tokens"]
