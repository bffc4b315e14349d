"""LiteLLM's configurations as ours: what is carried over, what is named, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.cli import main
from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.from_litellm import convert_file

FULL = """
model_list:
  - model_name: qwen3
    litellm_params:
      model: hosted_vllm/Qwen/Qwen3-30B-A3B
      api_base: http://vllm-1:8000/v1
      api_key: none
      rpm: 100
  - model_name: qwen3
    litellm_params: {model: hosted_vllm/Qwen/Qwen3-30B-A3B, api_base: "http://vllm-2:8000/v1/"}
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_key: os.environ/OPENAI_KEY
      input_cost_per_token: 0.0000025
      output_cost_per_token: 0.00001
    model_info: {max_input_tokens: 128000, supports_vision: true, supports_function_calling: true}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5}
  - model_name: llama
    litellm_params: {model: ollama_chat/llama3.2, api_base: "http://localhost:11434"}
  - model_name: vectors
    litellm_params: {model: text-embedding-3-small, api_key: sk-secret}
    model_info: {mode: embedding}
  - model_name: "openai/*"
    litellm_params: {model: "openai/*"}
  - model_name: azure-gpt
    litellm_params: {model: azure/deployment, api_base: "https://x.openai.azure.com"}
litellm_settings:
  request_timeout: 120
  num_retries: 3
  cache: true
router_settings:
  routing_strategy: least-busy
general_settings:
  master_key: sk-1234
"""


@pytest.fixture
def full(tmp_path: Path) -> Path:
    path = tmp_path / "litellm.yaml"
    path.write_text(FULL)
    return path


def test_what_is_carried_over(full: Path) -> None:
    found = convert_file(full).document
    assert found == {
        "models": {
            "qwen3": {
                "backends": [
                    {"url": "http://vllm-1:8000/v1", "model": "Qwen/Qwen3-30B-A3B"},
                    {"url": "http://vllm-2:8000/v1", "model": "Qwen/Qwen3-30B-A3B"},
                ]
            },
            "gpt-4o": {
                "backends": [{"url": "https://api.openai.com/v1", "api_key": "env:OPENAI_KEY"}],
                "price_usd_per_mtok": {"input": 2.5, "output": 10.0},
                "context_tokens": 128000,
                "capabilities": ["tools", "vision"],
            },
            "claude": {
                "backends": [
                    {
                        "url": "https://api.anthropic.com/v1",
                        "model": "claude-sonnet-4-5",
                        "api_key": "env:ANTHROPIC_API_KEY",
                    }
                ],
                "endpoints": ["chat", "messages"],
            },
            "llama": {"backends": [{"url": "http://localhost:11434/v1", "model": "llama3.2"}]},
            "vectors": {
                "backends": [
                    {
                        "url": "https://api.openai.com/v1",
                        "model": "text-embedding-3-small",
                        "api_key": "env:VECTORS_API_KEY",
                    }
                ],
                "endpoints": ["embeddings"],
            },
        },
        "timeouts": {"total_s": 120},
    }


def test_what_is_not_is_named(full: Path) -> None:
    notes = convert_file(full).notes
    assert notes == [
        "model_list[0].litellm_params.rpm is not carried over",
        "model_list[5].litellm_params.api_key was not copied: set VECTORS_API_KEY",
        "model_list[6]: openai/* stands for many models; name each of them",
        "model_list[7]: azure does not speak OpenAI's API; put a server that does before it",
        "litellm_settings.num_retries is not carried over: attempts are bounded by a retry budget",
        "litellm_settings.cache is not carried over",
        "router_settings.routing_strategy is not carried over: "
        "the least busy backend of a model is asked",
        "general_settings.master_key is not carried over: "
        "make keys with thalamus keys create; admin has a key of its own",
    ]


def test_the_command_prints_what_the_gateway_reads(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["convert", str(full)]) == 0
    printed = capsys.readouterr().out
    assert "sk-secret" not in printed
    assert "sk-1234" not in printed
    assert yaml.safe_load(printed) == convert_file(full).document
    path = tmp_path / "thalamus.yaml"
    path.write_text(printed)
    for name in ("OPENAI_KEY", "ANTHROPIC_API_KEY", "VECTORS_API_KEY"):
        monkeypatch.setenv(name, "k")
    assert list(load_config(path).models) == ["qwen3", "gpt-4o", "claude", "llama", "vectors"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("models: {}", "has no model_list"),
        ("[1", "is not YAML"),
        ("model_list: []", "no model can be carried over"),
        ("model_list: [{model_name: x}]", "no litellm_params.model"),
        (
            "model_list: [{model_name: x, litellm_params: {model: vllm/y, api_base: os.environ/U}}]",
            "api_base is a variable",
        ),
        ("model_list: [{model_name: auto, litellm_params: {model: openai/x}}]", "taken by routing"),
    ],
)
def test_what_is_no_such_file_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "litellm.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        convert_file(path)
