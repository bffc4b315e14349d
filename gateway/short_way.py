"""What a request on the short way is made of: its question, its way, and the client's end of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import msgspec

from gateway.decision.catalog import CatalogModel
from gateway.decision.decide import RoutedDecision
from gateway.errors import GatewayError
from gateway.ledger.savings import Comparison
from gateway.strands import Cancellable
from gateway.upstream.attempts import Tried
from gateway.upstream.stream import Sink
from gateway.upstream.wires.wire import ErrorEvent


class PlainReply(Sink, Protocol):
    """The client's end of the exchange, where nothing has to be waited for."""

    request_id: str
    headers: dict[str, str]

    @property
    def has_left(self) -> bool: ...

    def answer_plainly(self, lines: str, body: bytes) -> bool:
        """Send a whole answer with status 200; ``lines`` are header lines, each with its end.

        False when the client does not read as fast as that: then ``drain`` waits for it.
        """

    def begin_stream_plainly(self, lines: str, error_event: ErrorEvent) -> None:
        """Like ``begin_stream``, with header lines, each with its end. Raises ClientGone."""

    def end_stream_now(self) -> None: ...

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what nobody waits for."""

    def fail_now(self, error: GatewayError, headers: Mapping[str, str]) -> None: ...


#: Goes on with a request on the long way, after an attempt that failed or none.
GoOn = Callable[[Tried | None], Cancellable]


class PlainQuestion(msgspec.Struct, frozen=True):
    """``limit`` is the most tokens that the answer may have; ``wants_usage`` is of a stream."""

    body: bytes
    model: str
    messages: list[dict[str, str]]
    prompt_tokens: int
    limit: int | None
    is_stream: bool = False
    wants_usage: bool = False

    @property
    def context_tokens(self) -> int:
        return self.prompt_tokens + (self.limit or 0)


class Way(msgspec.Struct, frozen=True):
    """Who answers, why, and the header lines that say so.

    ``output_tokens`` are those expected of a decision that stands; None for one of this request.
    ``compared`` is with the alternatives, where there were any.
    """

    model: CatalogModel
    decision: RoutedDecision
    output_tokens: float | None
    lines: str
    compared: Comparison | None
