"""What operators do on a port of their own: look at what is in force, and change it while it runs."""

from __future__ import annotations

import datetime
import hmac
from typing import Annotated, Any

import msgspec
from fastapi import Body, Depends, FastAPI, Query, Request, Response
from starlette.responses import RedirectResponse
from starlette.routing import Route

from gateway.admin.learning import add_learning_routes
from gateway.api.error_answers import answer_errors
from gateway.app import Gateway
from gateway.console.effective_config import effective_config
from gateway.console.models import backend_entry, models_document
from gateway.console.routes import admin_pages
from gateway.console.traffic import traffic_document
from gateway.errors import ConfigError, InvalidRequest, NotFound, Unauthenticated, quoted
from gateway.ledger.usage_report import GROUPS, usage_of
from gateway.settings import Admin
from gateway.tenancy.issuing import issue_key, key_entry
from gateway.tenancy.principals import KeyBook, open_book


def admin_app(gateway: Gateway, admin: Admin) -> FastAPI:
    """Build the app; every route wants ``admin.key``."""

    def authenticate(request: Request) -> None:
        shown = request.headers.get("authorization", "")
        expected = f"Bearer {admin.key.get_secret_value()}"
        if not hmac.compare_digest(shown.encode(), expected.encode()):
            raise Unauthenticated("send the admin key as authorization: Bearer …")

    app = FastAPI(title="Thalamus admin", openapi_url=None, dependencies=[Depends(authenticate)])
    _add_process_routes(app, gateway)
    _add_backend_routes(app, gateway)
    _add_key_routes(app, gateway)
    _add_usage_route(app, gateway)
    add_learning_routes(app, gateway)
    # Without a key: they are the same files for everybody, and ask for the key themselves.
    app.mount("/console", admin_pages())
    app.router.routes.append(Route("/", lambda _: RedirectResponse("/console/")))
    answer_errors(app)
    return app


def _add_process_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/admin/config")
    def shown_config() -> dict[str, Any]:
        """The configuration in force, with every default; secrets show as ``***``."""
        return effective_config(gateway.parts)

    @app.post("/admin/reload")
    async def reload() -> dict[str, str]:
        """Read the configuration again. A 400 says what is wrong with it; then the old one stays."""
        try:
            await gateway.reload()
        except ConfigError as error:
            raise InvalidRequest(error.message, code="invalid_config") from error
        return {"policy_version": gateway.parts.decider.version}

    @app.post("/admin/drain")
    def drain() -> dict[str, object]:
        """Not ready any more, so that balancers turn away; requests are still answered."""
        gateway.is_draining = True
        return {"draining": True, "inflight": gateway.parts.pipeline.admission.inflight}

    @app.post("/admin/undrain")
    def undrain() -> dict[str, object]:
        gateway.is_draining = False
        return {"draining": False, "inflight": gateway.parts.pipeline.admission.inflight}


def _add_backend_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/admin/backends")
    def backends() -> dict[str, Any]:
        """Every backend of every model: whether it may be asked, how busy and how fast it is."""
        now_s = gateway.parts.clock.monotonic_s()
        found = gateway.parts.catalog.backends
        return {"backends": [backend_entry(model, handle, now_s) for model, handle in found]}

    @app.get("/admin/models")
    def models() -> dict[str, Any]:
        """Every model, what is declared of it, and its backends as above."""
        return models_document(gateway.parts, lambda _: True, tells_backends=True)

    @app.get("/admin/traffic")
    def traffic() -> dict[str, Any]:
        """The latest finished requests of all keys: sums, shares, savings, and one by one."""
        return traffic_document(list(gateway.parts.ledger.recent), tells_keys=True)

    def set_drained(name: str, *, drained: bool) -> dict[str, Any]:
        concerned = [h for _, h in gateway.parts.catalog.backends if h.name == name]
        if not concerned:
            raise NotFound(f"no backend is named {quoted(name)}; see /admin/backends")
        for handle in concerned:
            handle.health.is_drained = drained
        return {"backend": name, "drained": drained, "models": len(concerned)}

    @app.post("/admin/backends/{name}/drain")
    def drain_backend(name: str) -> dict[str, Any]:
        """Send it nothing new, for all its models; what it answers now it may end."""
        return set_drained(name, drained=True)

    @app.post("/admin/backends/{name}/undrain")
    def undrain_backend(name: str) -> dict[str, Any]:
        return set_drained(name, drained=False)


def _add_usage_route(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/admin/usage")
    def usage(
        by: Annotated[list[str], Query()] = ["key"],  # noqa: B006 - FastAPI copies it
        since: datetime.date | None = None,
        until: datetime.date | None = None,
    ) -> dict[str, Any]:
        """What was used, added up by key, model, backend, profile, outcome, day or month."""
        path = gateway.parts.config.state.ledger
        if path is None:
            raise InvalidRequest("state.ledger is not set: no ledger is kept", code="no_ledger")
        if unknown := [name for name in by if name not in GROUPS]:
            text = f"by must be of {', '.join(GROUPS)}, not {quoted(unknown[0])}"
            raise InvalidRequest(text, param="by")
        return {"usage": msgspec.to_builtins(usage_of(path, by, since, until))}


def _add_key_routes(app: FastAPI, gateway: Gateway) -> None:
    def book() -> KeyBook:
        config = gateway.parts.config
        if config.auth.mode != "keys":
            raise InvalidRequest("auth.mode is open: there are no keys", code="no_keys")
        return open_book(config)

    @app.get("/admin/keys")
    def keys() -> dict[str, Any]:
        now_s = gateway.parts.clock.wall_s()
        return {"keys": [key_entry(key, now_s) for key in book().read()]}

    @app.post("/admin/keys", status_code=201)
    def create(
        name: Annotated[str, Body()],
        policy: Annotated[dict[str, Any] | None, Body()] = None,
        expires_days: Annotated[float | None, Body(gt=0)] = None,
    ) -> dict[str, Any]:
        """Make a key; ``key`` is shown this once. It is good within two seconds."""
        now_s = gateway.parts.clock.wall_s()
        try:
            token, key = issue_key(book(), name, policy or {}, now_s, expires_days)
        except (msgspec.ValidationError, ConfigError) as error:
            raise InvalidRequest(f"policy: {error}", param="policy") from error
        return {"key": token, **key_entry(key, now_s)}

    @app.delete("/admin/keys/{key_id}", status_code=204)
    def revoke(key_id: str) -> Response:
        """End a key for ever; it is refused within two seconds."""
        if not book().revoke(key_id, gateway.parts.clock.wall_s()):
            raise NotFound(f"no key has the id {quoted(key_id)}; see /admin/keys")
        return Response(status_code=204)
