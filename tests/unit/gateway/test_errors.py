"""Every error is OpenAI's object, bounded, and says whether trying again could help."""

from __future__ import annotations

import json

import pytest

from gateway import errors
from gateway.errors import GatewayError, RoutingInfeasible, quoted


def tree(cls: type[GatewayError]) -> list[type[GatewayError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in tree(child))]


@pytest.mark.parametrize("cls", tree(GatewayError))
def test_the_envelope(cls: type[GatewayError]) -> None:
    if cls is RoutingInfeasible:
        error: GatewayError = RoutingInfeasible("m", constraint="min_quality", nearest=0.5)
    elif cls is errors.BackendRefused:
        error = errors.BackendRefused(503, "m")
    else:
        error = cls("m")
    body = json.loads(error.body())["error"]
    assert {"message", "type", "param", "code"} <= set(body)
    assert isinstance(body["code"], str)
    assert 400 <= error.status < 600
    assert (error.status >= 500) == (body["type"] == "server_error")


def test_the_tree_is_drawn_at_the_top() -> None:
    drawing = errors.__doc__ or ""
    missing = {cls.__name__ for cls in tree(GatewayError)} - {"StaleConnection"}
    assert not {name for name in missing if name not in drawing}


def test_what_the_user_sent_is_quoted_short() -> None:
    assert quoted("x") == "'x'"
    assert len(quoted("x" * 10_000)) <= errors.QUOTED_CHARS
