"""What operators may do with the versions of a router: look, promote, reject, roll back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, FastAPI

from gateway.app import Gateway
from gateway.errors import InvalidRequest
from gateway.learning.versions import VersionStore, describe_learning

#: A running gateway looks at the version in force every two seconds.
VersionId = Annotated[str, Body(embed=True, min_length=1, max_length=64)]


def add_learning_routes(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes under ``/admin/learning``; each answers what ``GET`` does then."""

    def store() -> VersionStore:
        section = gateway.parts.config.learning
        if section is None:
            raise InvalidRequest("learning is not configured", code="learning_not_configured")
        return VersionStore(section.folder)

    @app.get("/admin/learning")
    def learning() -> dict[str, Any]:
        """The versions, the one in force, and why each stands where it does."""
        return describe_learning(gateway.parts.config)

    @app.post("/admin/learning/promote")
    def promote(id: VersionId) -> dict[str, Any]:
        """Bring a version into force, whatever it was found to be; served by within seconds."""
        now_s = gateway.parts.clock.wall_s()
        store().promote(id, "promoted by an operator", now_s)
        return learning()

    @app.post("/admin/learning/reject")
    def reject(id: VersionId) -> dict[str, Any]:
        """Turn a version down, so that it is not promoted by itself."""
        store().reject(id, "rejected by an operator")
        return learning()

    @app.post("/admin/learning/rollback")
    def roll_back(id: VersionId) -> dict[str, Any]:
        """Return to a version that was in force before."""
        now_s = gateway.parts.clock.wall_s()
        store().roll_back(id, "an operator rolled back to it", now_s)
        return learning()
