"""Serve the application with uvicorn until told to stop."""

from __future__ import annotations

import errno
import gc
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from gateway.app import Gateway, create_app
from gateway.config import CONFIG_VARIABLE, METRICS_VARIABLE, config_from_environment
from gateway.errors import ConfigError
from gateway.server.http_protocol import GuardedHttp
from gateway.settings import Config, Server
from gateway.telemetry.logs import configure_logs

#: Shorter than the clients' own, longer than a pause in a conversation.
KEEP_ALIVE_S = 65


def check_port(server: Server) -> None:
    """Raise ConfigError when the address cannot be listened on, saying what to do."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host, server.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = server.port + 1
                raise ConfigError(
                    f"port {server.port} is in use: stop what listens there, "
                    f"or choose another with `make run PORT={other}` or --port {other}"
                ) from error
            raise ConfigError(
                f"cannot listen on {server.host}:{server.port}: {error.strerror}"
            ) from error


def serve(config: Config, config_path: Path | None, started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``started`` is called once the socket listens.

    With more than one worker each process reads ``config_path`` for itself.
    Raises ConfigError before anything listens when the configuration cannot be served.
    """
    check_port(config.server)
    configure_logs()
    if config.server.workers == 1:
        server = _OneProcess(uvicorn_settings(config.server, create_app(config)), started)
        spare_the_collector()
        server.run()
        return
    if config_path is None:
        raise ConfigError("server.workers: more than one needs a configuration file")
    os.environ[CONFIG_VARIABLE] = str(config_path.resolve())
    started()
    settings = uvicorn_settings(config.server, "gateway.server.run:worker_app")
    with tempfile.TemporaryDirectory(prefix="thalamus-metrics-") as folder:
        os.environ[METRICS_VARIABLE] = folder
        uvicorn.run(**settings, factory=True, workers=config.server.workers)


def worker_app() -> Gateway:
    """What each worker process serves."""
    configure_logs()
    gateway = create_app(config_from_environment())
    spare_the_collector()
    return gateway


def uvicorn_settings(server: Server, app: Gateway | str) -> dict[str, Any]:
    """How uvicorn runs the application: no access log, no header of its own, bounded drain."""
    return {
        "app": app,
        "host": server.host,
        "port": server.port,
        "loop": "uvloop",
        "http": GuardedHttp,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": int(server.drain_s),
    }


def spare_the_collector() -> None:
    """Keep the garbage collector from walking what lives as long as the process.

    Requests leave hardly any cycles; at the default thresholds a collector that walks the loaded
    router, the catalog and all modules takes a tenth of a busy gateway's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class _OneProcess(uvicorn.Server):
    def __init__(self, settings: dict[str, Any], started: Callable[[], None]) -> None:
        super().__init__(uvicorn.Config(**settings))
        self._on_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()
