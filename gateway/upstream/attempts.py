"""What is asked of backends for one request, and the tries that were made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import UpstreamError
from gateway.upstream.backend import BackendHandle
from gateway.upstream.wires.wire import Question

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Trace


class UpstreamCall(msgspec.Struct, frozen=True):
    """What is asked, whichever backend gets it."""

    is_stream: bool
    request_id: str
    question_for: Callable[[BackendHandle], Question]
    trace: Trace | None = None


class Attempt(msgspec.Struct, frozen=True):
    model: str
    backend: BackendHandle


class Trail(msgspec.Struct):
    """The attempts made for one request, in order; the last one is the one that counts.

    ``earlier`` counts those of a first try that came to nothing; ``verdict`` is what became of it.
    """

    attempts: list[Attempt] = msgspec.field(default_factory=list)
    #: The model that was to answer, whether or not it could be asked.
    intended: str | None = None
    earlier: int = 0
    verdict: str | None = None
    #: Backends that were asked for the same stream and were slower to begin it.
    outrun: list[Attempt] = msgspec.field(default_factory=list)

    @property
    def count(self) -> int:
        return self.earlier + len(self.attempts)

    def start_over(self, verdict: str) -> None:
        self.earlier += len(self.attempts)
        self.attempts.clear()
        self.intended = None
        self.verdict = verdict

    def settle_race(self, loser: Attempt) -> None:
        """Of two that were asked at once only the faster one counts as an attempt in its place."""
        self.attempts.remove(loser)
        self.earlier += 1
        self.outrun.append(loser)

    @property
    def fallback_from(self) -> str | None:
        """The model chosen first, when another one answered."""
        return self.intended if self.intended != self.attempts[-1].model else None


class Tried(msgspec.Struct, frozen=True):
    """An attempt that was made and failed before the dispatcher was asked."""

    attempt: Attempt
    error: UpstreamError
