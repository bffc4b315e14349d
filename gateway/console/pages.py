"""The console's pages: static files that load nothing from elsewhere and run nothing else's code."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_STATIC = Path(__file__).parent / "static"

#: The page holds a key while it is open, so that nothing foreign may run in it, frame it or be told
#: by it. Styles of elements are set by script, which ``style-src`` leaves alone.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Asked for again each time, and answered by 304 as long as it is the same.
    "cache-control": "no-cache",
}


class ConsolePages(StaticFiles):
    """The files under ``static``, the same on the gateway's port and on the admin port."""

    def __init__(self) -> None:
        super().__init__(directory=_STATIC, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response
