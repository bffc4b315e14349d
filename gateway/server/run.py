"""Serve the application with uvicorn until told to stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvicorn

from gateway.admin.routes import admin_app
from gateway.app import Gateway, create_app
from gateway.config import (
    CONFIG_VARIABLE,
    METRICS_VARIABLE,
    config_from_environment,
    load_config,
)
from gateway.errors import ConfigError
from gateway.open_files import raise_limit
from gateway.server.http_protocol import GuardedHttp
from gateway.server.watch import watch_file
from gateway.settings import Admin, Config, Server
from gateway.telemetry.logs import configure_logs

#: Shorter than the clients' own, longer than a pause in a conversation.
KEEP_ALIVE_S = 65


def check_port(server: Server | Admin) -> None:
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


def serve(
    config: Config,
    config_path: Path | None,
    started: Callable[[], None],
    read: Callable[[Path], Config] = load_config,
) -> None:
    """Serve until SIGINT or SIGTERM; ``started`` is called once the socket listens.

    With more than one worker each process reads ``config_path`` for itself. ``read`` reads it again.
    Raises ConfigError before anything listens when the configuration cannot be served.
    """
    raise_limit()
    check_port(config.server)
    if config.admin is not None:
        check_port(config.admin)
    configure_logs()
    if config.server.workers == 1:
        gateway = create_app(config, _rereading(config.server, config_path, read))
        server = _OneProcess(config, gateway, config_path, started)
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


def _rereading(
    server: Server, path: Path | None, read: Callable[[Path], Config]
) -> Callable[[], Config] | None:
    """Read the file again; where it listens and with how many processes is settled at the start."""
    if path is None:
        return None

    def reread() -> Config:
        config = read(path)
        kept = {"host": server.host, "port": server.port, "workers": server.workers}
        return config.model_copy(update={"server": config.server.model_copy(update=kept)})

    return reread


class _Noticed(uvicorn.Server):
    """At SIGTERM it is not ready at once, and stops listening ``notice_s`` later.

    Balancers thus turn away while everybody is still answered. A second signal ends the notice.
    """

    def __init__(self, config: uvicorn.Config, notice_s: float) -> None:
        super().__init__(config)
        self._notice_s = notice_s
        self._leaves_at_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        is_first = self._leaves_at_s is None
        if not (sig == signal.SIGTERM and self._notice_s and self.started and is_first):
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._leaves_at_s = time.monotonic() + self._notice_s
        cast(Gateway, self.config.loaded_app).is_draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._leaves_at_s is not None and time.monotonic() >= self._leaves_at_s:
            self.should_exit = True
        return await super().on_tick(counter)


class _OneProcess(_Noticed):
    """The gateway, and beside it the admin port; SIGHUP reads the configuration again."""

    def __init__(
        self, config: Config, gateway: Gateway, path: Path | None, started: Callable[[], None]
    ) -> None:
        settings = uvicorn_settings(config.server, gateway)
        super().__init__(uvicorn.Config(**settings), config.server.notice_s)
        self._gateway = gateway
        self._admin = None if config.admin is None else _AdminServer(gateway, config.admin)
        self._watched = path if config.server.watch_config else None
        self._on_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        if self._admin is not None:
            self._gateway.tasks.spawn("admin", self._admin.serve())
        if self._watched is not None:
            watch = watch_file(self._watched, self._gateway.reload_or_log)
            self._gateway.tasks.spawn("watch_config", watch)
        self._on_started()

    def _reload(self) -> None:
        self._gateway.tasks.spawn("reload", self._gateway.reload_or_log())


class _AdminServer(uvicorn.Server):
    """Ends with the gateway, whose task it is; signals are the gateway's."""

    def __init__(self, gateway: Gateway, admin: Admin) -> None:
        app = admin_app(gateway, admin)
        super().__init__(
            uvicorn.Config(
                app,
                host=admin.host,
                port=admin.port,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
