"""Who may see through the console what is no part of the API."""

from __future__ import annotations

import ipaddress

from starlette.requests import Request

from gateway.errors import Forbidden
from gateway.settings import Config

_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def check_is_open(config: Config) -> None:
    """Raise Forbidden where keys are asked for: then operators have a port and a key of their own."""
    if config.auth.mode != "open":
        raise Forbidden(
            "this is shown on the admin port alone, at /console/ there", code="admin_only"
        )


def check_is_at_the_machine(request: Request, config: Config) -> None:
    """Raise Forbidden unless an open gateway is asked by a browser on its own machine.

    The name that the browser asked for must be the machine's own, too: a page elsewhere whose name
    is made to point here (DNS rebinding) may not read it. What a proxy passes on comes from anywhere.
    """
    check_is_open(config)
    came_from = "" if request.client is None else request.client.host
    is_direct = not any(name in request.headers for name in _PROXY_HEADERS)
    hosts = (config.server.host, came_from, _without_port(request.headers.get("host", "")))
    if not (is_direct and all(map(_is_loopback, hosts))):
        raise Forbidden(
            "this is shown on the gateway's own machine, or on the admin port", code="admin_only"
        )


def _without_port(host: str) -> str:
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
