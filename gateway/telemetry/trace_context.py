"""W3C Trace Context: what a caller says of the trace that its request belongs to, and what we say on.

Only what the recommendation allows is taken in; a header that is not well formed counts as none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from gateway.ids import new_id

#: Version 00; a later version may say more after a hyphen, which we do not know (W3C, §3.2.4).
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_SAMPLED = 0x01
#: The caller drew its trace id at random; passed on as it is (level 2, §3.2.2.5.2).
_RANDOM = 0x02
#: Callers may be asked to take part of it; longer ones are not passed on.
MAX_STATE_CHARS = 512


class TraceContext(msgspec.Struct, frozen=True):
    """The trace and the span of the caller, and whether it records them; ``""`` is no caller."""

    trace_id: str
    parent_id: str
    is_sampled: bool
    is_random: bool
    state: str


def read_context(headers: Mapping[str, str]) -> TraceContext | None:
    """What ``traceparent`` and ``tracestate`` say; None without a well-formed ``traceparent``."""
    told = headers.get("traceparent")
    found = None if told is None else _TRACEPARENT.fullmatch(told.strip())
    if found is None:
        return None
    version, trace_id, parent_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or trace_id == _NO_TRACE:
        return None
    if parent_id == _NO_SPAN:
        return None
    bits = int(flags, 16)
    state = headers.get("tracestate", "").strip()
    if len(state) > MAX_STATE_CHARS or not (state.isascii() and state.isprintable()):
        state = ""
    return TraceContext(trace_id, parent_id, bool(bits & _SAMPLED), bool(bits & _RANDOM), state)


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's own headers, for a backend: where we add no span they are not ours to change."""
    context = read_context(headers)
    if context is None:
        return {}
    told = {"traceparent": headers["traceparent"].strip()}
    return {**told, "tracestate": context.state} if context.state else told


def context_headers(
    trace_id: str, span_id: str, *, is_sampled: bool, is_random: bool, state: str
) -> dict[str, str]:
    """The headers that tell a backend which span asks it."""
    flags = (_SAMPLED if is_sampled else 0) | (_RANDOM if is_random else 0)
    headers = {"traceparent": f"00-{trace_id}-{span_id}-{flags:02x}"}
    if state:
        headers["tracestate"] = state
    return headers


def is_drawn(trace_id: str, ratio: float) -> bool:
    """Whether a trace belongs to the share that is sampled; any process says the same of it."""
    return int(trace_id[16:], 16) < ratio * 2**64


def new_context() -> TraceContext:
    """Of a trace that begins here."""
    trace_id = new_id("") + new_id("")[:8]
    return TraceContext(trace_id, "", is_sampled=False, is_random=False, state="")


def new_span_id() -> str:
    """16 hexadecimal digits, not all of them zero but once in 10^19."""
    return new_id("")[:16]
