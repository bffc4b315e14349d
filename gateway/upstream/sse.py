"""Server-sent events, parsed as they arrive (WHATWG HTML §9.2): any split gives the same events.

Only the data of an event is kept: comments, ids, retry times and events without data end here, since
OpenAI's clients fail on them.
"""

from __future__ import annotations

from gateway.errors import BadUpstreamAnswer

MAX_EVENT_BYTES = 2**20
DONE = b"[DONE]"


def encode_event(data: bytes) -> bytes:
    """Frame one event; ``data`` must hold no line break."""
    return b"data: %b\n\n" % data


class SseParser:
    """Feed bytes, get the data of every event that is complete."""

    __slots__ = ("_had_cr", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._had_cr = False

    @property
    def has_rest(self) -> bool:
        """Whether bytes of an unfinished event are waiting."""
        return bool(self._rest.strip())

    @property
    def is_between(self) -> bool:
        """Whether all bytes so far were whole events."""
        return not self._rest and not self._had_cr

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of each event completed by ``piece``.

        Raises BadUpstreamAnswer when an event grows past MAX_EVENT_BYTES.
        """
        if (
            not self._rest
            and not self._had_cr
            and piece.startswith(b"data: ")
            and piece.find(b"\n") == len(piece) - 2
            and piece.endswith(b"\n\n")
            and b"\r" not in piece
        ):  # one whole event, as a server writes one that has just been made
            return [piece[6:-2]] if len(piece) > 8 else []
        if self._had_cr:  # an LF now is the second half of a line end that was taken already
            piece = piece.removeprefix(b"\n")
            self._had_cr = False
        if b"\r" in piece:
            self._had_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._rest:
            looked_at = len(self._rest) - 1  # an event's end may lie across the seam
            self._rest += piece
            if self._rest.find(b"\n\n", looked_at) < 0:
                self._check_size()
                return []
            piece = bytes(self._rest)
            self._rest.clear()
        *blocks, rest = piece.split(b"\n\n")
        self._rest += rest
        self._check_size()
        return [data for block in blocks if (data := _data_of(block))]

    def _check_size(self) -> None:
        if len(self._rest) > MAX_EVENT_BYTES:
            raise BadUpstreamAnswer("the backend sent an event larger than 1 MiB")


def _data_of(block: bytes) -> bytes:
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [
        line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(lines)
