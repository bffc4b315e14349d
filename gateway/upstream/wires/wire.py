"""The seam between an endpoint's wire shape and the path that every request takes.

A wire says where a backend is asked, what counts as an answer, and how the answer becomes what the
client asked for: the served model named, the cost added, its own stream grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from gateway.errors import GatewayError
from gateway.upstream.answers import Chunk, Pricer
from gateway.upstream.usage import TokenUsage

RawFields = dict[str, msgspec.Raw]
#: Words an error as one event of a stream that has begun.
ErrorEvent = Callable[[GatewayError], bytes]


class EventReader(Protocol):
    """Turns one backend's stream, event by event, into the client's; holds the state in between."""

    def take(self, data: bytes) -> Chunk:
        """Read the data of one event. Raises BadUpstreamAnswer, BackendRefused for an error."""

    def end(self) -> bytes:
        """What closes a stream that ended well; b"" when it is closed already."""

    def error_event(self, error: GatewayError) -> bytes:
        """The event that ends a stream that broke off, in this grammar."""


class Wire(Protocol):
    """One way of asking and being answered; see the module."""

    @property
    def path(self) -> str:
        """Where a backend is asked, below its base URL."""

    def check_answer(self, body: bytes) -> None:
        """Raise for a whole answer that is none, while another backend can still be asked."""

    def check_first_event(self, data: bytes) -> None:
        """Raise what ``EventReader.take`` would, while another backend can still be asked."""

    def restamp(self, body: bytes, model: str, price: Pricer) -> tuple[bytes, TokenUsage | None]:
        """Return the client's answer and what was used."""

    def reader(self, model: str, price: Pricer, *, wants_usage: bool) -> EventReader: ...


class Question(msgspec.Struct, frozen=True):
    """What one backend is asked. ``headers`` come on top of those that every question has."""

    wire: Wire
    body: bytes
    headers: Mapping[str, str]


def encode_named_event(document: Mapping[str, object]) -> bytes:
    """Frame an event whose name is also its ``type``."""
    return frame_named_event(str(document["type"]), msgspec.json.encode(document))


def frame_named_event(name: str, data: bytes) -> bytes:
    """Frame JSON as an event with a name; ``data`` may hold line breaks between its tokens."""
    if b"\n" in data:
        data = msgspec.json.format(data, indent=-1)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
