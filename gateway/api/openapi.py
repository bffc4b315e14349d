"""The data path in the OpenAPI page: FastAPI does not serve these routes, so it is told of them.

The page says what is checked before a backend is asked; what a model accepts beyond that is its own.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from gateway.decision.endpoints import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    ENDPOINTS,
    MESSAGES,
    RESPONSES,
    Endpoint,
)

_TEXT_OR_NULL = {"type": ["string", "null"]}
_ERROR_FIELDS = {
    "message": {"type": "string"},
    "type": {"type": "string"},
    "param": _TEXT_OR_NULL,
    "code": _TEXT_OR_NULL,
}
_ERROR_OBJECT = {"type": "object", "required": list(_ERROR_FIELDS), "properties": _ERROR_FIELDS}
_SCHEMAS: dict[str, Any] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _ERROR_OBJECT}},
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {"type": {"const": "error"}, "error": _ERROR_OBJECT},
    },
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
        },
    },
}
_ROUTING = {
    "type": ["object", "null"],
    "description": "Routing flags; an unknown key is an error. See docs/flags.md.",
}
_COUNT = {"type": ["integer", "null"], "minimum": 0}
_TEXTS_OR_TOKENS = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": {"type": "integer"}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "items": {"type": "integer"}},
        },
    ]
}
_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}
_ITEMS = {"oneOf": [{"type": "string"}, _MESSAGES]}

#: What each route needs besides a model, and what its answer always has.
_PROMPTS: dict[str, tuple[str, dict[str, Any], str, tuple[str, ...]]] = {
    CHAT.name: ("messages", _MESSAGES, "Chat completion", ("model",)),
    COMPLETIONS.name: ("prompt", _TEXTS_OR_TOKENS, "Text completion", ("model",)),
    EMBEDDINGS.name: ("input", _TEXTS_OR_TOKENS, "Embeddings", ("data", "model")),
    RESPONSES.name: ("input", _ITEMS, "Responses", ("output", "model")),
    MESSAGES.name: ("messages", _MESSAGES, "Anthropic Messages", ("content", "model")),
    COUNT_TOKENS.name: ("messages", _MESSAGES, "Anthropic's count of tokens", ("input_tokens",)),
}
_STATUSES = (
    "400",
    "401",
    "402",
    "403",
    "404",
    "405",
    "413",
    "415",
    "422",
    "429",
    "502",
    "503",
    "504",
)


def describe_data_path(app: FastAPI) -> None:
    """Add the routes that carry traffic to the schema that ``app`` publishes."""
    generate = app.openapi

    def with_data_path() -> dict[str, Any]:
        document = generate()
        components = document.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own are never sent
            components.pop(name, None)
        components.update(_SCHEMAS)
        paths = document["paths"]
        for endpoint in ENDPOINTS:
            paths[f"/v1{endpoint.path}"] = _operation(endpoint)
        for (path, method), told in _CONTROL_ANSWERS.items():
            if path in paths:
                answers = paths[path][method]["responses"]
                answers.pop("422", None)
                answers.update(told)
        return document

    # FastAPI's documented way to extend the schema is to replace this method.
    app.openapi = with_data_path  # type: ignore[method-assign]


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _named(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _errors(*statuses: str, schema: str = "Error") -> dict[str, Any]:
    description = "Anthropic's error object" if schema != "Error" else "OpenAI's error object"
    told = {"description": description, "content": _json(_named(schema))}
    return {status: told for status in statuses}


_MODEL_LIST = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"data": {"type": "array", "items": _named("Model")}},
}
_METRICS = {"text/plain": {"schema": {"type": "string"}}}
#: What the routes that FastAPI serves answer, where it does not know.
_CONTROL_ANSWERS: dict[tuple[str, str], dict[str, Any]] = {
    ("/v1/models", "get"): {
        "200": {"description": "Models", "content": _json(_MODEL_LIST)},
        **_errors("401"),
    },
    ("/v1/models/{name}", "get"): {
        "200": {"description": "One model", "content": _json(_named("Model"))},
        **_errors("401", "403", "404"),
    },
    ("/v1/route", "post"): _errors("400", "401", "403", "404", "413", "422", "503"),
    ("/v1/feedback", "post"): _errors("400", "401", "404"),
    ("/health/ready", "get"): _errors("503"),
    ("/metrics", "get"): {"200": {"description": "Prometheus text", "content": _METRICS}},
}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    field, prompt, summary, answered = _PROMPTS[endpoint.name]
    required = ["model", field] if endpoint.model_unless_named is None else []
    properties: dict[str, Any] = {
        "model": {"type": "string", "description": "auto, auto:<profile> or a model's name"},
        field: prompt,
        "routing": _ROUTING,
        **dict.fromkeys(endpoint.limits, _COUNT),
    }
    answer = {"type": "object", "required": list(answered)}
    content = _json(answer)
    if endpoint.makes_text:
        summary = f"{summary}, streamed or not"
        properties["stream"] = {"type": ["boolean", "null"]}
        content["text/event-stream"] = {}
    if endpoint is MESSAGES:
        required.append("max_tokens")
    body = {
        "type": "object",
        "required": required,
        "additionalProperties": True,
        "properties": properties,
    }
    said = "The backend's answer" + (
        ", `model` naming who served it" if "model" in answered else ""
    )
    schema = "AnthropicError" if endpoint in (MESSAGES, COUNT_TOKENS) else "Error"
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": _json(body)},
            "responses": {
                "200": {"description": said, "content": content},
                **_errors(*_STATUSES, schema=schema),
            },
        }
    }
