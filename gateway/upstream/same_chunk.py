"""A chunk of a stream that is, but for its words, one before it: told by its bytes, without parsing it.

Backends send an event a chunk (RFC 9112 §7.1) and repeat all of it but the few words that it brings.
Between bytes that were read before, what is a JSON string's inside (RFC 8259 §7) is other words and no
more.
"""

from __future__ import annotations

import re

import msgspec

#: What comes before the words, in the deltas of chats and the choices of completions.
_FIELD = re.compile(rb'"(?:content|text|reasoning_content|reasoning|arguments)" ?: ?"')
_INSIDE = re.compile(rb'[^"\\\x00-\x1f]*(?:\\["\\/bfnrt][^"\\\x00-\x1f]*)*')
_LINE_END = b"\r\n"
#: Of the framing of a chunk, beside the digits of its length.
_FRAME_BYTES = 4
_MOST_DIGITS = 6
#: Lengths of chunks whose beginning is kept.
_KEPT_LENGTHS = 256


class SameChunk(msgspec.Struct, gc=False):
    """The bytes of an event around its words: as it came, and as the client was sent it."""

    before: bytes
    #: With the end of the chunk, as all that follows the words.
    after: bytes
    sent_before: bytes
    sent_after: bytes
    is_sent_as_it_came: bool
    _begins: dict[int, bytes] = {}

    def sent_for(self, data: bytes) -> bytes | None:
        """The chunk that the client is sent for ``data``; None when it may be anything else."""
        length = len(data)
        begin = self._begins.get(length)
        if begin is None:
            begin = self._begin_of(length)
        if not (begin and data.startswith(begin) and data.endswith(self.after)):
            return None
        words = data[len(begin) : -len(self.after)]
        if _INSIDE.fullmatch(words) is None or not (words.isascii() or _is_utf8(words)):
            return None
        if self.is_sent_as_it_came:
            return data
        return framed(self.sent_before + words + self.sent_after)

    def _begin_of(self, length: int) -> bytes:
        """How a chunk of ``length`` bytes begins, up to its words; b"" where none is that long."""
        begin = b""
        for digits in range(1, _MOST_DIGITS + 1):
            size = b"%x" % max(0, length - _FRAME_BYTES - digits)
            if len(size) == digits:
                begin = b"%b\r\n%b" % (size, self.before)
        if len(begin) + len(self.after) > length:
            begin = b""
        if len(self._begins) < _KEPT_LENGTHS:
            self._begins[length] = begin
        return begin


def framed(event: bytes) -> bytes:
    """One chunk of a body sent in chunks."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def _is_utf8(words: bytes) -> bool:
    try:
        words.decode()
    except UnicodeDecodeError:
        return False
    return True


def remember_chunk(event: bytes, sent: bytes) -> SameChunk | None:
    """Remember an event with words in it, framed as one, and what it became; None without words."""
    came, became = _words_of(event), _words_of(sent)
    if came is None or became is None or came[0] != became[0]:
        return None
    begin, end = came.span()
    sent_begin, sent_end = became.span()
    return SameChunk(
        event[:begin], event[end:] + _LINE_END, sent[:sent_begin], sent[sent_end:], event == sent
    )


def _words_of(event: bytes) -> re.Match[bytes] | None:
    """The first words that an event brings."""
    for field in _FIELD.finditer(event):
        words = _INSIDE.match(event, field.end())
        if words is not None and words[0]:
            return words
    return None
