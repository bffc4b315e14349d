"""LangChain's standard tests of a chat model, for ChatOpenAI at the address in TEST_API_BASE_URL.

Not collected with the other tests: ``test_langchain_suite`` runs it, twice. The overrides are those
of langchain-openai's own run against OpenAI, less what needs OpenAI's reasoning models.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


@pytest.fixture(autouse=True)
def pictures_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite fetches a picture and a document from the web; any bytes will do."""
    monkeypatch.setattr(httpx, "get", lambda *_, **__: SimpleNamespace(content=b"bytes"))


class TestChatOpenAI(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "model",
            "base_url": os.environ["TEST_API_BASE_URL"],
            "api_key": "unused",
            "stream_usage": True,
        }

    @property
    def model_override_value(self) -> str:
        return "other-model"

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Any, Any]:
        told = ["reasoning_output", "cache_read_input"]
        return {"invoke": told, "stream": told}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        return self._invoke(stream=stream)

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return self._invoke(stream=stream)

    def _invoke(self, *, stream: bool) -> AIMessage:
        model = ChatOpenAI(**self.chat_model_params)
        if not stream:
            answer = model.invoke("Hello")
            assert isinstance(answer, AIMessage)
            return answer
        full = None
        for chunk in model.stream("Hello"):
            full = chunk if full is None else full + chunk
        assert isinstance(full, AIMessage)
        return full
