"""The reference pages that the code writes itself: settings, metrics and errors; the chart's schema.

python -m tests.docs.generate          # writes docs/config.md, docs/metrics.md, docs/errors.md, …
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.helm import values_schema
from deploy.kubernetes import generate as kubernetes
from gateway import errors
from gateway.cli import command_tree
from gateway.errors import GatewayError
from gateway.man_page import man_page
from gateway.manual_pages import PAGES
from gateway.settings import Config
from gateway.telemetry.metrics import Metrics

DOCS = Path(__file__).parents[2] / "docs"
_WRITTEN = "<!-- Written by `python -m tests.docs.generate`; a test holds it to the code. -->"
_EXAMPLE = """\
```yaml
server:
  port: 8080
auth:
  mode: keys
  keys: /var/lib/thalamus/keys.db
models:
  qwen3-30b-a3b:
    backends: [{url: "http://vllm-1:8000/v1"}, {url: "http://vllm-2:8000/v1"}]
    gpu_usd_per_hour: 2.5
  gpt-5-mini:
    backends: [{url: "https://api.openai.com/v1", api_key: env:OPENAI_API_KEY}]
    price_usd_per_mtok: {input: 0.25, output: 2.0}
```"""


def config_page() -> str:
    """Every setting with its type, default and meaning, section by section."""
    schema = Config.model_json_schema()
    lines = [
        "# Configuration",
        "",
        _WRITTEN,
        "",
        "One YAML file, given with `thalamus serve --config`. An unknown key is an error with its line",
        "and column; `thalamus check-config FILE` says all that is wrong at once. A secret is never",
        "written there: `env:NAME` or `file:PATH` says where it is. `models` alone is required.",
        "",
        _EXAMPLE,
        "",
    ]
    for path, section in _sections(schema, schema, ""):
        lines += [f"## {f'`{path}`' if path else 'Top level'}", ""]
        if about := _first_paragraph(section.get("description", "")):
            lines += [about, ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        required = section.get("required", [])
        for name, field in section["properties"].items():
            default = "required" if name in required else _default(field)
            row = (f"`{name}`", _type(field, schema), default, _meaning(field, schema))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        lines.append("")
    return "\n".join(lines)


def _sections(
    schema: dict[str, Any], section: dict[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, section
    for name, field in section["properties"].items():
        for suffix, inner in _inner(field, schema):
            yield from _sections(schema, inner, f"{path}.{name}{suffix}".lstrip("."))


def _meaning(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a field says of itself, or else what the section in it does."""
    sections = [section for _, section in _inner(field, schema)]
    said = [place.get("description") for place in (field, *sections)]
    told = _first_paragraph(next((words for words in said if words), ""))
    return told[:1].upper() + told[1:].removesuffix(".") + "." if told else ""


def _inner(field: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections that a field holds: itself, the entries of a list, or the values of a mapping."""
    for option in field.get("anyOf", [field]):
        places = [
            ("", option),
            ("[]", option.get("items")),
            (".NAME", option.get("additionalProperties")),
        ]
        for suffix, place in places:
            if isinstance(place, dict) and "$ref" in place:
                target = schema["$defs"][place["$ref"].rpartition("/")[2]]
                if "properties" in target:
                    yield suffix, target


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    options = [o for o in field.get("anyOf", [field]) if o.get("type") != "null"]
    return " or ".join(_one_type(option, schema) for option in options)


def _one_type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in field:
        return _one_type(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    choices = field.get("enum", [field["const"]] if "const" in field else [])
    if choices:
        return ", ".join(f"`{value}`" for value in choices)
    kind = "section" if "properties" in field else str(field.get("type", "any"))
    if kind == "array":
        return f"list of {_type(field.get('items', {}), schema)}"
    return "mapping" if kind == "object" else kind + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    signs = (
        ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"),
    )  # fmt: skip
    told = [f"{sign} {field[name]:g}" for name, sign in signs if name in field]
    return f" {', '.join(told)}" if told else ""


def _default(field: dict[str, Any]) -> str:
    if "default" not in field or field["default"] is None:
        return "–"
    default = field["default"]
    return "its own" if isinstance(default, dict) and default else f"`{json.dumps(default)}`"


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


def metrics_page() -> str:
    """Every metric with its type, labels and meaning."""
    lines = [
        "# Metrics",
        "",
        _WRITTEN,
        "",
        "What `/metrics` shows, in Prometheus' text format, over all workers. Labels come from closed",
        "sets: models and backends as configured, profiles, reasons, outcomes; never a key or a user.",
        "Boards, alerts and runbooks over them: [dashboards.md](dashboards.md).",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    families = Metrics(None).families
    for name, family in sorted(families.items()):
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        lines.append(f"| `{name}` | {family.kind} | {labels} | {family.text} |")
    return "\n".join([*lines, ""])


def errors_page() -> str:
    """Every error that a client can meet, with its status, type and code."""
    lines = [
        "# Errors",
        "",
        _WRITTEN,
        "",
        'Every error is OpenAI\'s object, `{"error": {"message", "type", "param", "code"}}`;',
        "`param` names the field. A stream that has begun ends with one event that holds it.",
        "`/v1/messages` answers in Anthropic's form. `x-should-retry: false` says that asking again",
        "will not help.",
        "",
        "| status | code | type | asking again helps | when |",
        "|---|---|---|---|---|",
    ]
    shown = sorted(_shown_errors(), key=lambda kind: (kind.status, str(kind.code)))
    for kind in shown:
        helps = {False: "no", True: "yes", None: "the client's own rule"}[kind.should_retry]
        about = _first_paragraph(kind.__doc__ or "") or "–"
        lines.append(f"| {kind.status} | `{kind.code}` | `{kind.type}` | {helps} | {about} |")
    return "\n".join([*lines, ""])


def _shown_errors() -> Iterator[type[GatewayError]]:
    """Errors that reach a client: no start-up error, and no class that only gathers others."""
    hidden = {errors.ConfigError, errors.LogUnreadable, errors.ScorerError, errors.StaleConnection}
    gathering = {errors.ClientError, errors.Capacity, errors.UpstreamError}
    for kind in vars(errors).values():
        is_error = isinstance(kind, type) and issubclass(kind, GatewayError)
        if is_error and kind not in hidden | gathering:
            yield kind


def pages() -> dict[Path, str]:
    """Every written page by its file."""
    return {
        DOCS / "config.md": config_page(),
        DOCS / "metrics.md": metrics_page(),
        DOCS / "errors.md": errors_page(),
        DOCS.parent / "gateway/thalamus.1": man_page(command_tree(), PAGES),
        values_schema.FILE: values_schema.values_schema(),
        kubernetes.RULE_FILE: kubernetes.prometheus_rule(),
        kubernetes.DASHBOARDS_FILE: kubernetes.dashboards(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
