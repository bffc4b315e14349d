"""The spans of one traced request, as OTLP words them, by OpenTelemetry's GenAI conventions.

Made after the fact from the moments that a trace kept. No prompt, no answer, no header and no
message of an error is ever part of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from gateway.telemetry.trace_context import new_span_id
from gateway.telemetry.tracing import CANCELLED, AttemptSpan, Place, Trace, TracedRequest

#: One span in OTLP's JSON form.
Span = dict[str, object]
Value = str | bool | int | float | None

_INTERNAL, _SERVER, _CLIENT = 1, 2, 3
_ERROR = 2
#: Steps between the laps of a decision.
_STEPS = ("authenticate", "parse", "featurise", "score", "choose", "reserve")
#: ``gen_ai.operation.name`` where it is not the endpoint's own.
_OPERATIONS = {"completions": "text_completion", "responses": "chat", "messages": "chat"}
#: ``gen_ai.provider.name`` by the end of a host's name; any other server speaks OpenAI's API.
_PROVIDERS = {
    ".openai.azure.com": "azure.ai.openai",
    ".services.ai.azure.com": "azure.ai.inference",
    ".anthropic.com": "anthropic",
    ".mistral.ai": "mistral_ai",
    ".groq.com": "groq",
    ".deepseek.com": "deepseek",
    ".x.ai": "x_ai",
    ".perplexity.ai": "perplexity",
    ".cohere.com": "cohere",
    ".amazonaws.com": "aws.bedrock",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
}
_NANOS_PER_USD = 1_000_000_000


class RequestSpans:
    """Words traces; ``places`` is where each backend of each model listens."""

    def __init__(self, places: Mapping[tuple[str, str], Place]) -> None:
        self._places = places

    def of(self, trace: Trace) -> list[Span]:
        """The server span of a request and, beneath it, one for each step and each attempt."""
        attempts = list(trace.attempts)
        spans = [self._server(trace), *_steps(trace)]
        winner = _winner(trace, attempts)
        spans += [self._attempt(trace, attempt, attempt is winner) for attempt in attempts]
        if winner is not None and trace.is_stream:
            spans.append(_stream(trace, winner))
        if trace.settled_s is not None:
            begun = [a.ended_s for a in attempts if a.ended_s is not None]
            began_s = max(begun, default=trace.reserved_s or trace.settled_s)
            spans.append(_inner(trace, "account", began_s, trace.settled_s))
        return spans

    def _server(self, trace: Trace) -> Span:
        row, receipt = trace.row, trace.receipt
        host, _, port = receipt.host.rpartition(":")
        operation = _operation(receipt.endpoint)
        has_streamed = row is not None and row.ttft_ms is not None
        told: dict[str, Value] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "thalamus",
            "gen_ai.request.model": trace.planned_model,
            "gen_ai.request.stream": trace.is_stream or None,
            "server.address": host or receipt.host or None,
            "server.port": int(port) if host and port.isdecimal() else None,
            "http.request.method": "POST",
            "http.route": f"/v1{receipt.path}",
            "url.path": f"/v1{receipt.path}",
            "http.request.body.size": receipt.body_bytes,
            "http.response.status_code": 200 if has_streamed else trace.status,
            "error.type": trace.error,
            "thalamus.request_id": receipt.request_id,
        }
        if row is not None:
            told |= _of_row(row) | _usage(row)
        name = operation if trace.planned_model is None else f"{operation} {trace.planned_model}"
        is_ours = trace.error not in {None, CANCELLED} and (trace.status or 0) >= 500
        span = _span(
            trace, name, _SERVER, receipt.received_s, trace.ended_s, told, is_failed=is_ours
        )
        span |= {"spanId": trace.span_id, "parentSpanId": trace.parent_id}
        return span

    def _attempt(self, trace: Trace, attempt: AttemptSpan, is_winner: bool) -> Span:
        place = self._places.get((attempt.model, attempt.backend))
        operation = _operation(trace.receipt.endpoint)
        error = attempt.error
        if is_winner and trace.error is not None:
            error = trace.error  # the answer broke off, or nobody waited for its end
        told: dict[str, Value] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _provider(None if place is None else place.host),
            "gen_ai.request.model": attempt.served_model,
            "gen_ai.request.stream": trace.is_stream or None,
            "server.address": None if place is None else place.host,
            "server.port": None if place is None else place.port,
            "error.type": error,
            "http.response.status_code": attempt.status,
            "thalamus.model": attempt.model,
            "thalamus.backend": attempt.backend,
        }
        if trace.is_stream and attempt.opened_s is not None:
            told["gen_ai.response.time_to_first_chunk"] = attempt.opened_s - attempt.began_s
        if is_winner and trace.row is not None:
            told |= _usage(trace.row)
        ended_s = trace.ended_s if attempt.ended_s is None else attempt.ended_s
        span = _span(
            trace,
            f"{operation} {attempt.served_model}",
            _CLIENT,
            attempt.began_s,
            ended_s,
            told,
            is_failed=error not in {None, CANCELLED},
        )
        span["spanId"] = attempt.span_id
        return span


def _winner(trace: Trace, attempts: list[AttemptSpan]) -> AttemptSpan | None:
    """The attempt whose answer the client got."""
    row = trace.row
    if row is None:
        return None
    opened = [a for a in attempts if a.opened_s is not None]
    ours = [a for a in opened if (a.model, a.backend) == (row.model, row.backend)]
    return ours[-1] if ours else None


def _steps(trace: Trace) -> Iterator[Span]:
    """A span for each step up to the first question; the one that failed ends with the request."""
    moments = [trace.receipt.received_s, *trace.laps]
    if trace.reserved_s is not None:
        moments.append(trace.reserved_s)
    for name, (began_s, ended_s) in zip(_STEPS, pairwise(moments), strict=False):
        yield _inner(trace, name, began_s, ended_s)
    done = len(moments) - 1
    if done < len(_STEPS) and trace.error is not None:
        yield _inner(trace, _STEPS[done], moments[-1], trace.ended_s, error=trace.error)


def _stream(trace: Trace, winner: AttemptSpan) -> Span:
    """From the first event of the backend to the last byte for the client."""
    row = trace.row
    began_s = winner.opened_s or winner.began_s
    ended_s = trace.ended_s if winner.ended_s is None else winner.ended_s
    span = _inner(trace, "stream", began_s, ended_s, error=trace.error)
    if row is not None and row.ttft_ms is not None:
        at_s = trace.receipt.received_s + row.ttft_ms / 1e3
        span["events"] = [{"timeUnixNano": _nanos(trace, at_s), "name": "first token"}]
    return span


def _of_row(row: TracedRequest) -> dict[str, Value]:
    return {
        "gen_ai.response.model": row.model,
        "gen_ai.response.time_to_first_chunk": None if row.ttft_ms is None else row.ttft_ms / 1e3,
        "thalamus.decision_id": row.decision_id,
        "thalamus.key": row.principal,
        "thalamus.profile": row.profile,
        "thalamus.model.chosen": row.chosen_model,
        "thalamus.reason": row.reason,
        "thalamus.backend": row.backend or None,
        "thalamus.outcome": row.outcome,
        "thalamus.attempts": row.attempts,
        "thalamus.predicted_quality": row.predicted_quality,
        "thalamus.cost_usd": None if row.cost_nanos is None else row.cost_nanos / _NANOS_PER_USD,
    }


def _usage(row: TracedRequest) -> dict[str, Value]:
    usage = row.usage
    return {
        "gen_ai.response.model": row.model,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
    }


def _operation(endpoint: str) -> str:
    return _OPERATIONS.get(endpoint, endpoint)


def _provider(host: str | None) -> str:
    told = f".{host}"
    return next((name for end, name in _PROVIDERS.items() if told.endswith(end)), "openai")


def _inner(
    trace: Trace, name: str, began_s: float, ended_s: float, error: str | None = None
) -> Span:
    is_failed = error not in {None, CANCELLED}
    return _span(trace, name, _INTERNAL, began_s, ended_s, {"error.type": error}, is_failed)


def _span(
    trace: Trace,
    name: str,
    kind: int,
    began_s: float,
    ended_s: float,
    told: Mapping[str, Value],
    is_failed: bool,
) -> Span:
    span: Span = {
        "traceId": trace.trace_id,
        "spanId": new_span_id(),
        "parentSpanId": trace.span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": _nanos(trace, began_s),
        "endTimeUnixNano": _nanos(trace, max(began_s, ended_s)),
        "attributes": [attribute(key, value) for key, value in told.items() if value is not None],
        "flags": 1,  # sampled
    }
    if trace.state:
        span["traceState"] = trace.state
    if is_failed:
        span["status"] = {"code": _ERROR}
    return span


def _nanos(trace: Trace, at_s: float) -> str:
    """OTLP's JSON has 64-bit integers as text."""
    return str(round((at_s + trace.wall_less_monotonic_s) * 1e9))


def attribute(key: str, value: str | bool | int | float) -> dict[str, object]:
    """One attribute as OTLP words it."""
    if isinstance(value, str):
        return {"key": key, "value": {"stringValue": value}}
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"doubleValue": value}}
