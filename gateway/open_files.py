"""Files and sockets of this process: how many it may have, and what is done when they run out.

Every client's connection may need one to a backend, so clients get less than half of what there is.
Beyond their share they are told so while a file is left for it.
"""

from __future__ import annotations

import errno
import logging
import os
import resource

import msgspec

_log = logging.getLogger(__name__)

#: Kept for everything that is no connection: the log, databases, the configuration, metrics.
KEPT_FOR_OURSELVES = 32


class Room(msgspec.Struct):
    """How many connections of clients are served, and how many are let in to be told that they are not.

    Whoever is beyond ``most`` is closed at once: no file is spent on a refusal then.
    """

    served: int
    most: int
    _is_short: bool = False

    def serves(self, connections: int) -> bool:
        """Whether the newest of so many is served; the log says once that it begins, and ends."""
        is_beyond = connections > self.served
        if is_beyond and not self._is_short:
            self._is_short = True
            _log.warning(
                "%d connections are all that the limit on open files leaves room for;"
                " further ones are refused: raise it (ulimit -n)",
                self.served,
            )
        elif self._is_short and connections <= self.served // 2:
            self._is_short = False
            _log.info("there is room for connections again")
        return not is_beyond


def raise_limit() -> None:
    """Take as many files as the system grants; the default is made for programs of the 1980s."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS grants less than it says
        _log.info("the limit of %d open files stays", soft)


def room() -> Room:
    """What the limit in force leaves for clients."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 2**20
    free = max(4, soft - KEPT_FOR_OURSELVES)
    return Room(served=free * 2 // 5, most=free * 3 // 5)


def are_spent() -> bool:
    """Whether no file can be opened now; the error of a failed connection does not always say."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE}
    return False
