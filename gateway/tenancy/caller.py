"""Whose request it is and what it has taken of the key's limits, as long as it is under way."""

from __future__ import annotations

import msgspec

from gateway.errors import GatewayError
from gateway.tenancy.limits import NANOS_PER_USD, Hold
from gateway.tenancy.principals import Principal


class Caller(msgspec.Struct):
    """A principal let in at once; see ``let_in``. ``release`` or ``settle`` ends it, once."""

    principal: Principal
    hold: Hold | None = None

    def limit_lines(self) -> str:
        """Header lines that tell what is left of the key's limits, each with its end."""
        meter = self.principal.meter
        if meter is None:
            return ""
        return "".join([f"{name}: {value}\r\n" for name, value in meter.headers().items()])

    def settle(self, tokens: int, nanos: int) -> None:
        """Put what was held right by what was used."""
        if self.hold is not None and self.principal.meter is not None:
            self.principal.meter.settle(self.hold, tokens, nanos)

    def release(self) -> None:
        """Give all of it back: the request is let in anew, or was none."""
        if self.hold is not None and self.principal.meter is not None:
            self.principal.meter.release(self.hold)


def let_in(principal: Principal, tokens: float, cost_usd: float | None) -> Caller | None:
    """Hold what a request may use; None where it is refused, or others have to be asked."""
    meter = principal.meter
    if meter is None:
        return Caller(principal)
    try:
        meter.check()
        nanos = 0 if cost_usd is None else round(cost_usd * NANOS_PER_USD)
        hold = meter.hold_at_once(round(tokens), nanos)
    except GatewayError:  # told by who asks again
        return None
    return None if hold is None else Caller(principal, hold)
