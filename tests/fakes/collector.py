"""A collector at a socket: reads OTLP over HTTP with OpenTelemetry's own message classes."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

#: Bytes that OTLP's JSON writes in hexadecimal, where protobuf's own has base64.
_IDS = ("traceId", "spanId", "parentSpanId")


def from_json(body: bytes) -> ExportTraceServiceRequest:
    """Read OTLP's JSON. Raises ParseError for a field that the schema does not have."""
    document = json.loads(body)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in _IDS:
                    raw = bytes.fromhex(span.get(name, ""))
                    span[name] = base64.b64encode(raw).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest())


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@dataclass(frozen=True)
class SeenSpan:
    """A span as it arrived; ids in hexadecimal, moments in nanoseconds since the epoch."""

    raw: Span
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.raw.name)

    @property
    def trace_id(self) -> str:
        return bytes(self.raw.trace_id).hex()

    @property
    def span_id(self) -> str:
        return bytes(self.raw.span_id).hex()

    @property
    def parent_id(self) -> str:
        return bytes(self.raw.parent_span_id).hex()

    @property
    def told(self) -> dict[str, Any]:
        return attributes(self.raw.attributes)

    @property
    def is_failed(self) -> bool:
        return bool(self.raw.status.code == 2)


@dataclass
class FakeCollector:
    """``answers`` are the statuses of the next exports, with headers and body; then 200 for ever."""

    port: int = 0
    spans: list[SeenSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        self.paths.append(path)
        self.headers.append(headers)
        status, told, answer = self.answers.pop(0) if self.answers else (200, {}, b"{}")
        if status == 200 and not answer.startswith(b'{"partial'):
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if headers["content-type"] == "application/json":
                request = from_json(body)
            else:
                request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                about = attributes(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans += [SeenSpan(span, about) for span in scope.spans]
        return status, told, answer

    def roots(self) -> list[SeenSpan]:
        """The server spans, one a request, in order of their arrival."""
        return [span for span in self.spans if span.raw.kind == Span.SPAN_KIND_SERVER]

    def beneath(self, parent: SeenSpan) -> list[SeenSpan]:
        """The spans right beneath this one, by the time they began."""
        found = [s for s in self.spans if s.parent_id == parent.span_id]
        return sorted(found, key=lambda s: int(s.raw.start_time_unix_nano))


@contextmanager
def fake_collector(port: int = 0) -> Iterator[FakeCollector]:
    """A collector that listens in threads of its own."""
    seen = FakeCollector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, told, answer = seen.take(self.path, headers, body)
            self.send_response(status)
            for name, value in {**told, "content-length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    seen.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
