"""The models a client can name and the backends that serve them: configuration made ready to use."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from pydantic import HttpUrl

from gateway.clock import Clock
from gateway.decision.endpoints import COUNT_TOKENS
from gateway.decision.prices import Price
from gateway.decision.readability import Readability
from gateway.settings import Backend, Config, Model
from gateway.upstream.backend import BackendHandle
from gateway.upstream.balance import ordered
from gateway.upstream.transport import Transport, open_transport
from gateway.upstream.watch import WatchedServer


@dataclass(frozen=True, slots=True)
class CatalogModel:
    name: str
    config: Model
    backends: tuple[BackendHandle, ...]
    released_day: int | None
    capabilities: frozenset[str] | None
    security_level: int | None
    readability: Readability
    list_price: Price | None

    def price(self, prompt_tokens: int, backend: BackendHandle) -> Price | None:
        """The price of a token now: by the list, or of the hardware's time; None when unknown."""
        usd_per_hour = self.config.gpu_usd_per_hour
        if usd_per_hour is None:
            return self.list_price
        health = backend.health
        if health.ttft_ms.value is None or health.token_ms.value is None:
            return None
        # USD per hour and milliseconds a token, to USD per million tokens, each request of those
        # that the backend answers at once paying alike.
        scale = usd_per_hour / 3600 * 1e3 / (health.inflight + 1)
        read_ms = health.ttft_ms.value / max(1, prompt_tokens)
        return Price(scale * read_ms, scale * health.token_ms.value)

    def serves(self, endpoint: str) -> bool:
        """Whether any of its backends can be asked for this."""
        return any(backend.serves(endpoint) for backend in self.backends)

    def usable_backends(
        self, now_s: float, endpoint: str, prefix: bytes | None = None
    ) -> list[BackendHandle]:
        """Backends that may be asked for this now, in the order of ``balance``.

        ``prefix`` is how the prompt begins, where that counts; see ``balances_by_prefix``.
        """
        usable = [b for b in self.backends if b.health.is_usable(now_s) and b.serves(endpoint)]
        return ordered(usable, self.config.balance, now_s, prefix)

    @property
    def balances_by_prefix(self) -> bool:
        return self.config.balance == "prefix" and len(self.backends) > 1


def security_level_of(model: Model) -> int | None:
    """The least level declared of the model and its backends: any of them may serve."""
    declared = [model.security_level, *(backend.security_level for backend in model.backends)]
    return min((level for level in declared if level is not None), default=None)


def _watched(config: Config, models: Mapping[str, CatalogModel]) -> list[WatchedServer]:
    """Servers to read the load of, each once, without the key that opens their models."""
    concerned: dict[str, list[BackendHandle]] = {}
    plain: dict[str, Backend] = {}
    every_s: dict[str, list[float | None]] = {}
    for name, model in config.models.items():
        for backend, handle in zip(model.backends, models[name].backends, strict=True):
            if backend.is_watched:
                root = backend.root_address
                concerned.setdefault(root, []).append(handle)
                plain[root] = Backend(url=HttpUrl(root), transport=backend.transport)
                every_s.setdefault(root, []).append(backend.signals_every_s)
    return [
        WatchedServer(open_transport(plain[root]), tuple(handles), _most_often(every_s[root]))
        for root, handles in concerned.items()
    ]


def _most_often(every_s: list[float | None]) -> float | None:
    """Of those who read one server the most eager; None is the usual pace, which nobody exceeds."""
    told = [seconds for seconds in every_s if seconds is not None]
    return min(told) if len(told) == len(every_s) else None


def _listed(model: Model) -> Price | None:
    listed = model.price_usd_per_mtok
    return None if listed is None else Price(listed.input, listed.output, listed.cached_input)


class Catalog:
    """Every configured model, in the order of the configuration."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._clock = clock
        self._transports: dict[tuple[str, str, str, bool], Transport] = {}
        self.models: dict[str, CatalogModel] = {
            name: self._build(name, model) for name, model in config.models.items()
        }
        #: Whether any model's streams may be continued.
        self.resumes = any(model.resume for model in config.models.values())
        self.watched = _watched(config, self.models)

    def _build(self, name: str, model: Model) -> CatalogModel:
        released = model.released
        return CatalogModel(
            name=name,
            config=model,
            backends=tuple(self._handle(name, model, backend) for backend in model.backends),
            released_day=(released - datetime.date(1970, 1, 1)).days if released else None,
            capabilities=frozenset(model.capabilities) if model.capabilities is not None else None,
            security_level=security_level_of(model),
            readability=Readability(model.readability),
            list_price=_listed(model),
        )

    def _handle(self, name: str, model: Model, backend: Backend) -> BackendHandle:
        # Models of one server share its connections, as far as they share its key.
        endpoints = frozenset[str](backend.endpoints or model.endpoints)
        # Anthropic's way of sending a key is for those who speak Anthropic's API.
        speaks_messages = "messages" in endpoints
        if speaks_messages:
            endpoints |= {COUNT_TOKENS.name}
        secret = "" if backend.api_key is None else backend.api_key.get_secret_value()
        key = (backend.transport, backend.address, secret, speaks_messages)
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = open_transport(
                backend, has_x_api_key=speaks_messages
            )
        extra = {k: msgspec.Raw(msgspec.json.encode(v)) for k, v in backend.extra_body.items()}
        served = backend.model or name
        return BackendHandle(
            backend.label, served, extra, transport, endpoints, resumes=model.resume
        )

    @property
    def backends(self) -> list[tuple[CatalogModel, BackendHandle]]:
        return [(model, backend) for model in self.models.values() for backend in model.backends]

    def is_ready(self) -> bool:
        """Whether at least one backend may be asked now."""
        now_s = self._clock.monotonic_s()
        return any(backend.health.is_usable(now_s) for _, backend in self.backends)

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()
        for server in self.watched:
            await server.transport.close()
