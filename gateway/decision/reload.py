"""Take a router artifact that was replaced on disk into use, without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gateway.decision.scoring import LoadedRouters, artifact_folder, load_routers
from gateway.errors import ConfigError
from gateway.settings import Config
from router_models.artifact import MANIFEST

_log = logging.getLogger(__name__)

#: Seconds between looks at the manifest; loading takes some hundredths of one.
PERIOD_S = 2.0

Stamp = tuple[int, int, int]


async def watch_artifact(
    config: Config, adopt: Callable[[LoadedRouters], None], period_s: float = PERIOD_S
) -> None:
    """Load the artifact whenever its manifest is another file, and hand it over; runs for ever.

    It ends at once where there is none and nothing is learnt. One that cannot be loaded is logged
    once and changes nothing. Files are read in a thread.
    """
    if config.router.artifact == "none" and config.learning is None:
        return
    seen = await asyncio.to_thread(_stamp_in_force, config)
    while True:
        await asyncio.sleep(period_s)
        found = await asyncio.to_thread(_stamp_in_force, config)
        if found is None or found == seen:
            continue
        seen = found
        try:
            routers = await asyncio.to_thread(load_routers, config)
        except ConfigError as error:
            _log.error("the router on disk changed and is not taken: %s", error)
            continue
        adopt(routers)
        _log.info("router %s is in use", routers.version())


def _stamp_in_force(config: Config) -> Stamp | None:
    folder = artifact_folder(config)
    return None if folder is None else stamp_of(folder / MANIFEST)


def stamp_of(path: Path) -> Stamp | None:
    """What tells one file from another; None in the moment between two."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
