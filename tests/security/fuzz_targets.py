"""What is fuzzed: each takes bytes and must end in a result or in one of the gateway's own errors.

``python -m tests.security.fuzz_targets NAME CORPUS… [-max_total_time=60]`` runs one under Atheris,
guided by coverage; ``test_fuzz.py`` runs all on the committed corpus and on bytes from hypothesis.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable

from gateway.clock import SystemClock
from gateway.decision.endpoints import CHAT_WIRE, ENDPOINTS
from gateway.decision.features import featurise
from gateway.decision.flags import FlagError, parse_flags, parse_model_name
from gateway.decision.request import parse_request
from gateway.errors import GatewayError
from gateway.settings import Timeouts
from gateway.upstream.answers import read_refusal
from gateway.upstream.attempts import Attempt
from gateway.upstream.backend import BackendHandle
from gateway.upstream.connection import LeanConnection
from gateway.upstream.dispatch import OpenAnswer
from gateway.upstream.lean import LeanClient, LeanResponse
from gateway.upstream.sse import SseParser
from gateway.upstream.stream import Progress, StreamRelay
from gateway.upstream.usage import TokenUsage
from gateway.upstream.wires.wire import Wire

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_NATIVE = frozenset(endpoint.name for endpoint in ENDPOINTS)
_NOBODY = LeanClient("http://127.0.0.1:9", {})
_BACKENDS = (
    BackendHandle("chats", "m", {}, _NOBODY),
    BackendHandle("speaks", "m", {}, _NOBODY, _NATIVE),
)


def _price(usage: TokenUsage) -> float:
    return usage.prompt_tokens * 1e-6 + usage.completion_tokens * 2e-6


def fuzz_request(data: bytes) -> None:
    """The body of a request: read, perceived, and put into a backend's words."""
    if not data:
        return
    endpoint = ENDPOINTS[data[0] % len(ENDPOINTS)]
    request = parse_request(data[1:], endpoint)
    prompt = request.prompt
    featurise(prompt.text, prompt.size_bytes, request.fields, request.max_output_tokens)
    model = parse_model_name(request.model)
    parse_flags(model, {}, request.routing)
    for backend in _BACKENDS:
        request.question_for(backend)


def fuzz_flags(data: bytes) -> None:
    """Routing flags in headers: one ``name=value`` a line, the first line is the model."""
    first, *lines = data.decode("latin-1").split("\n")
    pairs = (line.partition("=") for line in lines)
    headers = {f"x-routing-{name.lower()}": value for name, _, value in pairs}
    parse_flags(parse_model_name(first), headers, {})


def fuzz_sse(data: bytes) -> None:
    """A stream of events, whole and split anywhere: the events must be the same."""
    whole = SseParser().feed(data)
    parser = SseParser()
    step = data[0] % 16 + 1 if data else 1
    split = [event for i in range(0, len(data), step) for event in parser.feed(data[i : i + step])]
    assert split == whole, (split, whole)


def _wires() -> list[Wire]:
    bodies = {
        "chat": b'{"model":"m","messages":[{"role":"user","content":"x"}]}',
        "completions": b'{"model":"m","prompt":"x"}',
        "embeddings": b'{"model":"m","input":["x","y"]}',
        "responses": b'{"model":"m","input":"x"}',
        "messages": b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}',
        "count_tokens": b'{"model":"m","messages":[{"role":"user","content":"x"}]}',
    }
    requests = [parse_request(bodies[endpoint.name], endpoint) for endpoint in ENDPOINTS]
    return [request.question_for(backend).wire for request in requests for backend in _BACKENDS]


_WIRES = _wires()


def fuzz_answers(data: bytes) -> None:
    """A backend's whole answer: what passes the check must be restamped without an error."""
    if not data:
        return
    wire = _WIRES[data[0] % len(_WIRES)]
    read_refusal(None, data[1:])
    wire.check_answer(data[1:])
    wire.restamp(data[1:], "m", _price)


def fuzz_events(data: bytes) -> None:
    """A backend's stream: every event that is sent on is framed, and none holds a stray line."""
    if not data:
        return
    reader = _WIRES[data[0] % len(_WIRES)].reader("m", _price, wants_usage=bool(data[0] & 16))
    try:
        for event in SseParser().feed(data[1:]):
            chunk = reader.take(event)
            if chunk.data is not None:
                assert chunk.data.endswith(b"\n\n"), chunk.data
                names = {line.partition(b":")[0] for line in chunk.data.split(b"\n") if line}
                assert names <= {b"event", b"data"}, chunk.data
            if chunk.is_last:
                break
        reader.end()
    except GatewayError as raised:
        ending = reader.error_event(raised)
        assert ending.endswith(b"\n\n"), ending


class _Wire(asyncio.Transport):
    """A socket that takes everything and says nothing."""

    def write(self, data: object) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...


def fuzz_lean(data: bytes) -> None:
    """Bytes of an HTTP answer in pieces, as the lean client reads them."""
    asyncio.run(_read(data))


async def _read(data: bytes) -> None:
    connection = LeanConnection()
    connection.connection_made(_Wire())
    connection.send(b"")
    step = data[0] + 1 if data else 1
    for start in range(0, len(data), step):
        connection.data_received(data[start : start + step])
    connection.connection_lost(None)


class _Sink:
    """What a client is sent; with ``takes_chunks`` framed, as on its connection."""

    def __init__(self, *, takes_chunks: bool) -> None:
        self.takes_chunks = takes_chunks
        self.sent = b""

    def write(self, data: bytes) -> bool:
        self.sent += data
        return True

    def write_chunk(self, data: bytes) -> bool:
        size, _, rest = data.partition(b"\r\n")
        assert (len(rest) - 2, rest[-2:]) == (int(size, 16), b"\r\n"), data
        return self.write(rest[:-2])

    async def drain(self) -> None: ...


def fuzz_relay(data: bytes) -> None:
    """The chunks of a stream in pieces: the client gets the same where alike ones pass unread."""
    assert asyncio.run(_relayed(data, unread=True)) == asyncio.run(_relayed(data, unread=False))


async def _relayed(data: bytes, *, unread: bool) -> tuple[bytes, Progress, str]:
    connection = LeanConnection()
    connection.connection_made(_Wire())
    connection.send(b"")
    connection.data_received(_STREAM_HEAD)
    sink, progress = _Sink(takes_chunks=unread), Progress()
    response = LeanResponse(connection, lambda *_, **__: None)
    answer = OpenAnswer(Attempt("m", _BACKENDS[0]), CHAT_WIRE, response)
    reader = CHAT_WIRE.reader("m", _price, wants_usage=False)
    relay = StreamRelay(reader, Timeouts(), SystemClock())
    running = asyncio.ensure_future(relay.run(answer, sink, progress))
    step = data[0] + 1 if data else 1
    pieces = data[1:].split(b"|") if step == 256 else _in_steps(data[1:], step)
    for piece in pieces:
        await asyncio.sleep(0)
        if piece:
            connection.data_received(piece)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    try:
        await running
    except GatewayError as error:
        return sink.sent, progress, type(error).__name__
    return sink.sent, progress, ""


def _in_steps(data: bytes, step: int) -> list[bytes]:
    return [data[start : start + step] for start in range(0, len(data), step)]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": fuzz_request,
    "flags": fuzz_flags,
    "sse": fuzz_sse,
    "answers": fuzz_answers,
    "events": fuzz_events,
    "lean": fuzz_lean,
    "relay": fuzz_relay,
}


def run_one(name: str, data: bytes) -> None:
    """Run a target; the errors that it may end in are its result."""
    with contextlib.suppress(GatewayError, FlagError):
        TARGETS[name](data)


def main() -> None:
    import atheris  # only in the conformance environment

    name = sys.argv.pop(1)
    atheris.instrument_all()
    atheris.Setup(sys.argv, lambda data: run_one(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
