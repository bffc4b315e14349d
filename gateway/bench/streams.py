"""The clients that wrk cannot play: requests at a steady rate, and readers of streams.

Run as a process of its own, so that it can be kept off the gateway's core:
``python -m gateway.bench.streams rate|streams|long URL MODEL …``; it prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

_SENT_AT = re.compile(rb'" t=(\d{6,})"')
_LENGTH = re.compile(rb"content-length: *(\d+)")
_END = b"0\r\n\r\n"
_QUESTION = (
    "Summarise the incident report below in three sentences for a manager who has not followed the "
    "outage. The checkout service returned errors for eleven minutes after a configuration push "
    "changed the pool size. List the follow-up actions, each with an owner. Case %d."
)
LIMIT_S = 60.0
#: Between two long prompts.
LONG_PAUSE_S = 0.1


def request_bytes(url: str, model: str, index: int, *, is_stream: bool) -> bytes:
    parts = urlsplit(url)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION % (index % 32)}],
        "max_tokens": 256,
        "stream": is_stream,
    }
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def long_request_bytes(url: str, model: str, index: int, size: int) -> bytes:
    """A prompt of ``size`` bytes of text, which no other one repeats."""
    parts = urlsplit(url)
    text = f"Case {index}. " + (_QUESTION % index + " ") * (size // len(_QUESTION))
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 16}
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@dataclass
class Tally:
    """Times in µs; ``bad`` counts answers that were none."""

    done: int = 0
    bad: int = 0
    chunks: int = 0
    waits: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    holds: list[float] = field(default_factory=list)

    def told(self) -> dict[str, float]:
        return {
            "done": self.done,
            "bad": self.bad,
            "chunks": self.chunks,
            "p50_us": percentile(self.waits, 50),
            "p99_us": percentile(self.waits, 99),
            "gap_p99_us": percentile(self.gaps, 99),
            "hold_p50_us": percentile(self.holds, 50),
            "hold_p99_us": percentile(self.holds, 99),
        }


def percentile(values: list[float], share: float) -> float:
    """0 where there is nothing to rank."""
    if not values:
        return 0.0
    return round(sorted(values)[min(len(values) - 1, int(share / 100 * len(values)))], 1)


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._transport: asyncio.Transport
        self._ended: asyncio.Future[None] | None = None
        self._head = b""
        self._tail = b""
        self._remains = -1
        self._last_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(ConnectionError("closed"))

    @property
    def is_closed(self) -> bool:
        """Whether the other side ended the connection, which it may after any answer."""
        return self._transport.is_closing()

    async def ask(self, request: bytes) -> None:
        self._head, self._tail, self._remains, self._last_ns = b"", b"", -1, 0
        self._ended = asyncio.get_running_loop().create_future()
        began_ns = time.monotonic_ns()
        self._transport.write(request)
        await asyncio.wait_for(self._ended, LIMIT_S)
        self._tally.waits.append((time.monotonic_ns() - began_ns) / 1e3)
        self._tally.done += 1
        self._tally.bad += b" 200 " not in self._head[:16]

    def data_received(self, data: bytes) -> None:
        if not self._tail:  # the head has not ended yet
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            length = _LENGTH.search(head.lower())
            self._remains = int(length[1]) if length else -1
            self._tail = b"\r\n"
        self._note_chunks(data)
        self._tail = (self._tail + data)[-8:]
        if self._remains >= 0:
            self._remains -= len(data)
        is_whole = self._remains == 0 or (self._remains < 0 and self._tail.endswith(_END))
        if is_whole and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _note_chunks(self, data: bytes) -> None:
        sent = _SENT_AT.findall(data)
        if not sent:
            return
        now_ns = time.monotonic_ns()
        tally = self._tally
        tally.chunks += len(sent)
        tally.holds.extend((now_ns - int(at)) / 1e3 for at in sent)
        if self._last_ns:
            tally.gaps.append((now_ns - self._last_ns) / 1e3)
        self._last_ns = now_ns


async def _connect(url: str, tally: Tally) -> Client:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    _, client = await loop.create_connection(lambda: Client(tally), host, port)
    return client


async def at_a_rate(url: str, model: str, rate: float, seconds: float) -> Tally:
    """Ask ``rate`` times a second, whatever became of earlier requests."""
    tally = Tally()
    idle: list[Client] = []
    began_s = time.monotonic()

    async def one(index: int) -> None:
        await asyncio.sleep(began_s + index / rate - time.monotonic())
        client = idle.pop() if idle else None
        if client is None or client.is_closed:
            client = await _connect(url, tally)
        try:
            await client.ask(request_bytes(url, model, index, is_stream=False))
        except (ConnectionError, TimeoutError):
            tally.bad += 1
        else:
            idle.append(client)

    await asyncio.gather(*(one(index) for index in range(int(rate * seconds))))
    return tally


async def read_streams(url: str, model: str, streams: int, concurrency: int) -> Tally:
    """Read ``streams`` streams, ``concurrency`` at once."""
    tally = Tally()
    left = iter(range(streams))

    async def reader() -> None:
        client = None
        for index in left:
            if client is None or client.is_closed:
                client = await _connect(url, tally)
            try:
                await client.ask(request_bytes(url, model, index, is_stream=True))
            except (ConnectionError, TimeoutError):
                tally.bad += 1
                client = None

    await asyncio.gather(*(reader() for _ in range(concurrency)))
    return tally


async def ask_long(url: str, model: str, seconds: float, size: int) -> Tally:
    """Ask with a long prompt again and again."""
    tally = Tally()
    client = await _connect(url, tally)
    # Made beforehand: a reader of streams shares this core.
    requests = [
        long_request_bytes(url, model, index, size)
        for index in range(max(1, int(seconds / LONG_PAUSE_S)))
    ]
    for request in requests:
        if client.is_closed:
            client = await _connect(url, tally)
        try:
            await client.ask(request)
        except (ConnectionError, TimeoutError):
            tally.bad += 1
        await asyncio.sleep(LONG_PAUSE_S)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["rate", "streams", "long"])
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--bytes", type=int, default=1_000_000)
    args = parser.parse_args()
    if args.kind == "rate":
        run = at_a_rate(args.url, args.model, args.rate, args.seconds)
    elif args.kind == "long":
        run = ask_long(args.url, args.model, args.seconds, args.bytes)
    else:
        run = read_streams(args.url, args.model, args.streams, args.concurrency)
    print(json.dumps(uvloop.run(run).told()))


if __name__ == "__main__":
    main()
