"""A message whose head is, byte for byte, that of the one before it on its connection.

Who keeps a connection says the same head again and again; only ``content-length`` differs. What the
parser made of it once holds again, so it need not be asked: comparing bytes costs a tenth.
"""

from __future__ import annotations

import re

import msgspec

_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})(?=\r\n)", re.IGNORECASE)
_END = b"\r\n\r\n"
#: A longer head is not worth comparing.
_LONGEST = 4_096


class SameHead(msgspec.Struct, frozen=True):
    """What the parser said of a head: ``fields`` by lower-case name, and a request's ``path``.

    ``fields`` serve many messages and are not to be changed; ``content-length`` is not among them.

    ``before`` and ``after`` are its bytes around the digits of ``content-length``.
    """

    before: bytes
    after: bytes
    fields: dict[str, str]
    path: bytes = b""

    def body_of(self, data: bytes) -> bytes | None:
        """The body of a whole message with this head; None when ``data`` is anything else."""
        if not data.startswith(self.before):
            return None
        begin = len(self.before)
        end = data.find(b"\r", begin, begin + 10)
        if end < 0 or not data.startswith(self.after, end):
            return None
        digits, body_at = data[begin:end], end + len(self.after)
        if not digits.isdigit() or len(data) - body_at != int(digits):
            return None
        return data[body_at:]


def remember(data: bytes, fields: dict[str, str], path: bytes = b"") -> SameHead | None:
    """Remember the head of ``data``, exactly one message that the parser took in whole.

    None where a length other than one in plain digits frames its body.
    """
    end = data.find(_END, 0, _LONGEST)
    if end < 0 or "transfer-encoding" in fields:
        return None
    lengths = list(_LENGTH.finditer(data, 0, end + 2))
    body_at = end + len(_END)
    if len(lengths) != 1 or int(lengths[0][1]) != len(data) - body_at:
        return None
    length = lengths[0]
    told = {name: value for name, value in fields.items() if name != "content-length"}
    return SameHead(data[: length.start(1)], data[length.end(1) : body_at], told, path)
