"""Export of traces: OTLP over HTTP in its JSON form, by a thread of its own.

Requests hand their traces over and go on. What a collector does not take in time is dropped and
counted; nothing here ever holds up a request. https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import http.client
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from gateway.telemetry.request_spans import Span, attribute
from gateway.telemetry.series import Counter
from gateway.telemetry.tracing import Trace

_log = logging.getLogger(__name__)

#: Traces that may wait for the collector.
MAX_WAITING = 4_096
#: Traces in one export.
MAX_BATCH = 128
#: How long a trace may wait for others to be sent with it.
GATHER_S = 0.5
#: How long one export is tried again, and the pauses between tries.
RETRY_FOR_S = 60.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
#: Answers that ask for another try; the specification names these four.
_AGAIN = frozenset({429, 502, 503, 504})
_MAX_ANSWER_BYTES = 64 * 1024
_PATH = "/v1/traces"

Fate = Literal["sent", "again", "refused"]


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_spans: str | int = 0
    error_message: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


class Collector:
    """The far end: one connection that is opened at need and kept."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], timeout_s: float) -> None:
        parts = urlsplit(endpoint)
        path = parts.path.rstrip("/")
        self._path = path if path.endswith(_PATH) else path + _PATH
        self.timeout_s = timeout_s
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        self._headers = {**headers, "content-type": "application/json"}
        self.complaint = ""
        #: What it asked us to wait, in seconds; 0 where it did not say.
        self.pause_s = 0.0

    def post(self, body: bytes) -> Fate:
        """Send one export; ``complaint`` says what was wrong with it."""
        self.pause_s = 0.0
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read(_MAX_ANSWER_BYTES)
            if answer.length:  # longer than anybody's answer: the connection is of no more use
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.complaint = f"{type(error).__name__}: {error}"
            return "again"
        if 200 <= answer.status < 300:
            return self._read_success(text)
        self.complaint = f"status {answer.status}"
        told = answer.headers.get("retry-after", "")
        self.pause_s = min(float(told), LONGEST_PAUSE_S) if told.isdecimal() else 0.0
        return "again" if answer.status in _AGAIN else "refused"

    def _read_success(self, text: bytes) -> Fate:
        try:
            partial = msgspec.json.decode(text, type=_Answer).partial_success if text else None
        except msgspec.MsgspecError:
            return "sent"  # taken, and answered in words of its own
        if partial is None or str(partial.rejected_spans) == "0":
            return "sent"
        self.complaint = f"{partial.rejected_spans} spans rejected: {partial.error_message[:200]}"
        return "refused"

    def close(self) -> None:
        self._connection.close()


class TraceExporter:
    """Takes traces, words them and sends them; ``close`` sends what waits, within the timeout."""

    def __init__(
        self,
        collector: Collector,
        resource: Mapping[str, str | int],
        words: Callable[[Trace], list[Span]],
        sent: Counter,
        lost: Counter,
    ) -> None:
        self._collector = collector
        #: How a trace becomes spans; a new configuration brings new words for the same collector.
        self.words = words
        self._sent = sent
        self._lost = lost
        self._resource = [attribute(key, value) for key, value in resource.items()]
        self._scope = {"name": "thalamus", "version": str(resource.get("service.version", ""))}
        self._waiting: deque[Trace] = deque()
        self._closing = threading.Event()
        self._ends_by_s = float("inf")
        self._in_trouble = False
        self._thread: threading.Thread | None = None

    def put(self, trace: Trace) -> None:
        """Take a trace that has ended; returns at once."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost.inc()
            return
        self._waiting.append(trace)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Send what waits, for no longer than the timeout; nothing may be put afterwards."""
        self._ends_by_s = time.monotonic() + self._collector.timeout_s
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2 * self._collector.timeout_s)
        self._collector.close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            is_open = not self._closing.wait(GATHER_S)
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
                fate = self._send(self.encode(batch))
                (self._sent if fate == "sent" else self._lost).inc(len(batch))

    def encode(self, batch: list[Trace]) -> bytes:
        """The body of one export."""
        spans: list[Span] = []
        for trace in batch:
            spans += self.words(trace)
            time.sleep(0)  # the event loop shares the interpreter with us: let it go first
        scoped = {"scope": self._scope, "spans": spans}
        resource = {"attributes": self._resource}
        return msgspec.json.encode(
            {"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]}
        )

    def _send(self, body: bytes) -> Fate:
        gives_up_s = time.monotonic() + RETRY_FOR_S
        pause_s = FIRST_PAUSE_S
        while True:
            if time.monotonic() >= min(gives_up_s, self._ends_by_s):
                return "refused"
            fate = self._collector.post(body)
            self._tell(fate)
            if fate != "again":
                return fate
            # While the process ends nobody waits for a collector that is not there.
            if self._closing.wait(self._collector.pause_s or pause_s):
                return "sent" if self._collector.post(body) == "sent" else "refused"
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _tell(self, fate: Fate) -> None:
        """One line when trouble begins and one when it ends."""
        if (fate != "sent") is self._in_trouble:
            return
        self._in_trouble = fate != "sent"
        if self._in_trouble:
            _log.warning("traces do not reach their collector: %s", self._collector.complaint)
        else:
            _log.info("traces reach their collector again")


def resource_of(service_name: str, version: str) -> dict[str, str | int]:
    """What every span says of the process that made it."""
    host = socket.gethostname()
    return {
        "service.name": service_name,
        "service.version": version,
        "service.instance.id": f"{host}-{os.getpid()}",
        "host.name": host,
        "process.pid": os.getpid(),
    }
