"""Which model a conversation is with: an agent's loop and a session stay where they are.

Changing the model inside a loop of tool calls hands one model's half-done work to another, and any
change throws away the prefix that the model's backend has cached. It chooses nothing: it remembers.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from gateway.clock import Clock
from gateway.decision.features import PromptFeatures

#: How long a conversation that says nothing more is remembered: longer than a prefix stays cached.
REMEMBERED_S = 1800.0
MAX_REMEMBERED = 20_000

_Key = tuple[str, str]


class Pin(msgspec.Struct, frozen=True):
    """``prompt_tokens`` were read by ``model`` last time, so that its backend has them cached."""

    model: str
    prompt_tokens: int
    at_s: float


class Sessions:
    """The model that answered each conversation last, by whose it is. Kept by this process alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pins: OrderedDict[_Key, Pin] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pins)

    def find(self, principal: str, session_id: str | None, features: PromptFeatures) -> Pin | None:
        """Tell which model a request continues with; None where it begins something new.

        A session is known by the id that the caller gives it, a loop of tool calls by what it is
        about: its first message and the human's ask, which every turn of it repeats.
        """
        if session_id is not None:
            return self._find((principal, f"session {session_id}"))
        if features.loop is not None and features.is_tool_turn:
            return self._find((principal, features.loop))
        return None

    def note(
        self, principal: str, session_id: str | None, features: PromptFeatures, model: str
    ) -> None:
        """Remember who answered."""
        if session_id is None and features.loop is None:
            return
        pin = Pin(model, features.prompt_tokens, self._clock.monotonic_s())
        if session_id is not None:
            self._keep((principal, f"session {session_id}"), pin)
        if features.loop is not None:
            self._keep((principal, features.loop), pin)

    def _find(self, key: _Key) -> Pin | None:
        pin = self._pins.get(key)
        if pin is None or self._clock.monotonic_s() - pin.at_s > REMEMBERED_S:
            return None
        return pin

    def _keep(self, key: _Key, pin: Pin) -> None:
        self._pins[key] = pin
        self._pins.move_to_end(key)
        if len(self._pins) > MAX_REMEMBERED:
            self._pins.popitem(last=False)
