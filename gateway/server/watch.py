"""Notice that the configuration's file changed, whoever replaced it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.decision.reload import stamp_of

#: Seconds between looks at the file.
PERIOD_S = 2.0


async def watch_file(
    path: Path, changed: Callable[[], Awaitable[None]], period_s: float = PERIOD_S
) -> None:
    """Await ``changed`` whenever the path leads to another file than before; runs for ever.

    A file written in place counts, and so does a link that leads elsewhere, which is how Kubernetes
    replaces a ConfigMap. Nothing happens while there is no file.
    """
    seen = await asyncio.to_thread(stamp_of, path)
    while True:
        await asyncio.sleep(period_s)
        found = await asyncio.to_thread(stamp_of, path)
        if found is not None and found != seen:
            seen = found
            await changed()
