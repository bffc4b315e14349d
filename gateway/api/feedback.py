"""``POST /v1/feedback``: a client's score of an answer."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request

from gateway.errors import UNREADABLE_JSON, InvalidRequest
from gateway.parts import Parts

_LONGEST_BODY = 64 * 1024


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    comment: Annotated[str, msgspec.Meta(max_length=4_000)] | None = None


_BODY_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": msgspec.json.schema(_Body)["$defs"]["_Body"]}},
    }
}


def feedback_router(parts: Parts) -> APIRouter:
    """Build the route over one process's parts."""
    router = APIRouter()

    @router.post("/v1/feedback", openapi_extra=_BODY_SCHEMA)
    async def feedback(request: Request) -> dict[str, Any]:
        """Score an answer from 0 to 1 by its ``x-request-id``; the last score counts.

        ``known`` tells whether this process remembers the answer; the score is kept either way.
        """
        principal = parts.door.authenticate(request.headers)
        given = _read(await request.body())
        if parts.feedback is None:
            raise InvalidRequest(
                "feedback is kept in the decision log, and none is configured",
                code="feedback_not_kept",
            )
        known = parts.feedback.take(principal.name, given.request_id, given.score, given.comment)
        return {"request_id": given.request_id, "score": given.score, "known": known}

    return router


def _read(body: bytes) -> _Body:
    if len(body) > _LONGEST_BODY:
        raise InvalidRequest(f"feedback is at most {_LONGEST_BODY} bytes")
    try:
        return msgspec.json.decode(body, type=_Body)
    except UNREADABLE_JSON as error:
        field = str(error).rpartition("$.")[2].rstrip("`") if "$." in str(error) else None
        raise InvalidRequest(f"feedback: {error}", param=field) from error
