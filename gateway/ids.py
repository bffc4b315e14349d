"""Names for requests and decisions: random, so that no two processes ever give the same."""

from __future__ import annotations

import os

#: Random bytes of one name, as UUIDs have about as many.
_NAME_BYTES = 12
#: Names drawn from the system at once: asking it for each costs more than all else about a name.
_NAMES_DRAWN = 256


class _Draws:
    """Random bytes in stock; a process that forks draws anew, so that none is given twice."""

    def __init__(self) -> None:
        self.refill()
        os.register_at_fork(after_in_child=self.refill)

    def refill(self) -> None:
        drawn = os.urandom(_NAME_BYTES * _NAMES_DRAWN).hex()
        width = 2 * _NAME_BYTES
        self._names = [drawn[at : at + width] for at in range(0, len(drawn), width)]

    def take(self) -> str:
        if not self._names:
            self.refill()
        return self._names.pop()


_draws = _Draws()


def new_id(prefix: str) -> str:
    """Return ``prefix`` and 24 hexadecimal digits that nobody can foresee."""
    return prefix + _draws.take()
