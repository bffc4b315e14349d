"""The data path in the OpenAPI page: FastAPI does not serve these routes, so it is told of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ROUTING = {
    "type": "object",
    "description": "Routing flags; an unknown key is an error. See docs/flags.md.",
}


def describe_data_path(app: FastAPI) -> None:
    """Add the routes that carry traffic to the schema that ``app`` publishes."""
    generate = app.openapi

    def with_data_path() -> dict[str, Any]:
        schema = generate()
        schema.setdefault("components", {}).setdefault("schemas", {})["Error"] = _ERROR
        schema["paths"].update(
            {
                "/v1/chat/completions": _operation(
                    "Chat completion, streamed or not",
                    "messages",
                    {"type": "array", "minItems": 1, "items": {"type": "object"}},
                ),
                "/v1/completions": _operation(
                    "Text completion, streamed or not", "prompt", {"type": "string"}
                ),
            }
        )
        return schema

    # FastAPI's documented way to extend the schema is to replace this method.
    app.openapi = with_data_path  # type: ignore[method-assign]


def _operation(summary: str, prompt_field: str, prompt: dict[str, Any]) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["model", prompt_field],
        "additionalProperties": True,
        "properties": {
            "model": {"type": "string", "description": "auto, auto:<profile> or a model's name"},
            prompt_field: prompt,
            "stream": {"type": "boolean"},
            "routing": _ROUTING,
        },
    }
    answers = {
        "200": {
            "description": "The backend's answer, `model` naming who served it",
            "content": {"application/json": {}, "text/event-stream": {}},
        }
    }
    for status in ("400", "404", "413", "415", "422", "502", "503", "504"):
        answers[status] = {
            "description": "OpenAI's error object",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": answers,
        }
    }
