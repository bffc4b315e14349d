"""What the console shows of the loop that learns from traffic."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gateway.learning.versions import describe_learning
from gateway.parts import Parts


def learning_router(parts: Parts) -> APIRouter:
    """Build the route over one process's parts."""
    router = APIRouter()

    @router.get("/api/learning")
    def learning(request: Request) -> dict[str, Any]:
        """The versions of the router, the one in force, and why each stands where it does."""
        parts.door.authenticate(request.headers)
        return describe_learning(parts.config)

    return router
