"""The gateway before three real vLLM servers: chat with LoRA adapters, a mixture of experts twice."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import yaml

from gateway.cli import main
from tests.vllm_servers.servers import Server, gateway, vllm_server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

#: Log-probabilities of the library's experts in torch, float32.
RECORDED = json.loads((Path(__file__).parents[1] / "e2e" / "torch_logprobs.json").read_text())
LIBRARY = sorted({case["model"] for case in RECORDED})
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
        },
    },
}


@dataclass(frozen=True)
class Pool:
    chat: Server
    moe: tuple[Server, Server]
    adapters: Path
    folder: Path

    def models(self) -> dict[str, Any]:
        chat = f"{self.chat.url}/v1"
        replicas = [{"url": f"{server.url}/v1"} for server in self.moe]
        return {
            "smollm2": {"backends": [{"url": chat}]},
            "poet": {"backends": [{"url": chat}]},
            "clerk": {"backends": [{"url": chat}]},
            "moe": {"backends": replicas},
            **{name: {"backends": [{"url": chat}]} for name in LIBRARY},
        }


@pytest.fixture(scope="module")
def pool(
    vllm_python: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("servers")
    adapters = models / "adapters"
    chat = vllm_server(
        vllm_python, models / "smollm2", "smollm2", folder,
        "--served-model-name", "smollm2", LIBRARY[0],
        "--enable-lora", "--max-lora-rank", "16", "--max-loras", "2",
        "--max-cpu-loras", "8",
        "--lora-modules", f"poet={adapters / 'poet'}",
        *(f"{name}={adapters / name.rpartition('-')[2]}" for name in LIBRARY[1:]),
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    )  # fmt: skip
    moe = (
        vllm_server(vllm_python, models / "moe", "moe", folder),
        vllm_server(vllm_python, models / "moe", "moe", folder),
    )
    servers = (chat, *moe)
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_until_ready()
        yield Pool(chat, moe, adapters, folder)
    finally:
        for server in servers:
            server.end()


@pytest.fixture(scope="module")
def served(pool: Pool) -> Iterator[Server]:
    with gateway(pool.folder, pool.models()) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[openai.OpenAI]:
    http = httpx2.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", http_client=http) as opened:
        yield opened


def text_of(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=16
    )
    assert answer.model == model
    return answer.choices[0].message.content


def test_chat(client: openai.OpenAI) -> None:
    assert "Paris" in text_of(client, "smollm2")


def test_stream_with_usage_equals_the_whole_answer(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="smollm2", messages=QUESTION, temperature=0, max_tokens=16,
            stream=True, stream_options={"include_usage": True},
        )
    )  # fmt: skip
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == text_of(client, "smollm2")
    assert chunks[-1].usage.completion_tokens > 0


def test_tools(pool: Pool, client: openai.OpenAI) -> None:
    body: dict[str, Any] = {
        "model": "smollm2", "messages": QUESTION, "tools": [TOOL], "temperature": 0, "max_tokens": 60,
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
    }  # fmt: skip
    (call,) = client.chat.completions.create(**body).choices[0].message.tool_calls
    assert call.function.name == "look_up"
    json.loads(call.function.arguments)  # what is in them is the small model's own idea
    url = f"{pool.chat.url}/v1/chat/completions"
    direct = httpx2.post(url, json=body, trust_env=False, timeout=60).json()
    (expected,) = direct["choices"][0]["message"]["tool_calls"]
    assert call.function.model_dump() == expected["function"]


def test_structured_output(client: openai.OpenAI) -> None:
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
    }
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, response_format=wanted, temperature=0, max_tokens=60
    )
    assert set(json.loads(answer.choices[0].message.content)) == {"city"}


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, logprobs=True, top_logprobs=3, max_tokens=4
    )
    for token in answer.choices[0].logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= 0


def test_an_adapter_is_a_model(client: openai.OpenAI) -> None:
    assert text_of(client, "poet") != text_of(client, "smollm2")


def test_the_librarys_experts_are_what_torch_trained(client: openai.OpenAI) -> None:
    nats = []
    for case in RECORDED:
        answer = client.chat.completions.create(
            model=case["model"],
            messages=[{"role": "user", "content": case["prompt"]}],
            max_tokens=1,
            temperature=0,
            logprobs=True,
            top_logprobs=20,
            extra_body={"return_tokens_as_token_ids": True},
        )
        served = {
            int(entry.token.removeprefix("token_id:")): entry.logprob
            for entry in answer.choices[0].logprobs.content[0].top_logprobs
        }
        recorded = zip(case["token_ids"], case["logprobs"], strict=True)
        nats += [abs(served[token] - logprob) for token, logprob in recorded]
    assert sum(nats) / len(nats) < 0.05
    assert max(nats) < 0.3


def test_an_adapter_is_loaded_and_unloaded_while_serving(pool: Pool, client: openai.OpenAI) -> None:
    def tell(what: str, **body: str) -> None:
        url = f"{pool.chat.url}/v1/{what}_lora_adapter"
        done = httpx2.post(url, json={"lora_name": "clerk", **body}, trust_env=False, timeout=60)
        assert done.status_code == 200, done.text

    with pytest.raises(openai.NotFoundError):
        text_of(client, "clerk")
    tell("load", lora_path=str(pool.adapters / "clerk"))
    assert text_of(client, "clerk") != text_of(client, "poet")
    tell("unload")
    with pytest.raises(openai.NotFoundError):
        text_of(client, "clerk")


def test_the_servers_metrics_prove_that_our_experts_ran(pool: Pool, client: openai.OpenAI) -> None:
    text_of(client, "moe")
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s and not any(
        server.metric("thalamus_moe_calls_total") for server in pool.moe
    ):
        time.sleep(0.2)
    calls = sum(server.metric("thalamus_moe_calls_total") for server in pool.moe)
    slots = sum(server.metric("thalamus_moe_slots_total") for server in pool.moe)
    tokens = sum(server.metric("thalamus_moe_tokens_total") for server in pool.moe)
    assert calls > 0
    assert calls % 4 == 0, "four layers"
    assert slots == 2 * tokens > 0
    assert "ThalamusExperts replaces" in pool.moe[0].log.read_text()


def test_the_gateway_shows_what_real_servers_say(
    pool: Pool, served: Server, client: openai.OpenAI
) -> None:
    text_of(client, "moe")
    deadline_s = time.monotonic() + 10
    while served.metric("thalamus_backend_experts") == 0 and time.monotonic() < deadline_s:
        time.sleep(0.2)
    page = httpx2.get(f"{served.url}/metrics", trust_env=False).text
    experts = dict(
        re.findall(r'thalamus_backend_experts\{[^}]*kind="(\w+)",model="moe"\} (\S+)', page)
    )
    assert float(experts["calls"]) % 4 == 0
    assert float(experts["slots"]) == 2 * float(experts["tokens"])
    assert 1 <= float(experts["distinct_per_call"]) <= 8
    for server in (pool.chat, *pool.moe):
        backend = f'backend="127.0.0.1:{server.port}"'
        for signal_name in ("running", "waiting", "kv_usage"):
            missing = rf'signal_missing\{{{backend},model="\w+",signal="{signal_name}"\}} 0\.0'
            assert re.search(missing, page), signal_name
        assert re.search(rf"queue_depth\{{{backend}", page)


def test_load_is_what_the_server_says_while_it_works(
    pool: Pool, served: Server, client: openai.OpenAI
) -> None:
    with client.chat.completions.create(
        model="poet",
        messages=QUESTION,
        max_tokens=400,
        stream=True,
        extra_body={"ignore_eos": True},
    ) as stream:
        next(iter(stream))
        deadline_s = time.monotonic() + 10
        mine = rf'load\{{backend="127.0.0.1:{pool.chat.port}",model="poet",signal="(\w+)"\}} (\S+)'
        while time.monotonic() < deadline_s:
            told = dict(re.findall(mine, httpx2.get(f"{served.url}/metrics", trust_env=False).text))
            if float(told.get("running", 0)) == 1 and float(told.get("adapters", 0)) == 1:
                break
            time.sleep(0.1)
    assert float(told["running"]) == 1
    assert float(told["adapters"]) == 1
    assert 0 < float(told["kv_usage"]) < 1


def test_priority_session_and_rank_are_accepted_by_vllm(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2",
        messages=QUESTION,
        max_tokens=1,
        extra_headers={
            "x-session-id": "s",
            "x-vllm-priority": "0",
            "x-data-parallel-rank": "0",
        },
    )
    assert answer.choices


def test_discover_reads_the_real_servers(
    pool: Pool, client: openai.OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    text_of(client, "poet")
    assert main(["discover", *(f"{server.url}/v1" for server in (pool.chat, pool.moe[1]))]) == 0
    printed = capsys.readouterr().out
    models = yaml.safe_load(printed)["models"]
    assert {name: model["context_tokens"] for name, model in models.items()} == {
        "smollm2": 1024, "poet": 1024, "moe": 1024, **dict.fromkeys(LIBRARY, 1024),
    }  # fmt: skip
    assert "poet is an adapter of smollm2" in printed
    assert "2 fit at once" in printed


def test_a_replica_dies_and_returns_under_load_without_a_lost_request(
    pool: Pool, served: Server
) -> None:
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        body = {"model": "moe", "messages": QUESTION, "max_tokens": 8}
        while not stop.is_set():
            url = f"{served.url}/v1/chat/completions"
            answer = httpx2.post(url, json=body, trust_env=False, timeout=60)
            statuses.append(answer.status_code)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        time.sleep(2)
        pool.moe[0].end(signal.SIGKILL)
        time.sleep(5)
        pool.moe[0].start()
        pool.moe[0].wait_until_ready()
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            if pool.moe[0].metric("vllm:request_success_total") > 0:
                break
            time.sleep(0.5)
    finally:
        stop.set()
        for asker in askers:
            asker.join(60)
    assert pool.moe[0].metric("vllm:request_success_total") > 0
    assert len(statuses) > 10
    assert set(statuses) == {200}


def test_sigterm_lets_a_stream_end(pool: Pool) -> None:
    with gateway(pool.folder, pool.models()) as leaving:
        body = {"model": "smollm2", "messages": QUESTION, "stream": True, "max_tokens": 60}
        body |= {"ignore_eos": True}
        url = f"{leaving.url}/v1/chat/completions"
        with httpx2.stream("POST", url, json=body, trust_env=False, timeout=60) as answer:
            lines = answer.iter_lines()
            first = next(line for line in lines if line.startswith("data: "))
            assert leaving.process is not None
            leaving.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line.startswith("data: ")]
        assert "error" not in json.loads(first.removeprefix("data: "))
        assert rest[-1] == "data: [DONE]"
        assert (
            json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        )
        # Drained, it ends as the signal asks: 0, or the signal itself under uvicorn.
        assert leaving.process.wait(25) in {0, -signal.SIGTERM}
