"""What a setting may be: names, addresses, shares, secrets, each checked as it is read.

Secrets come by reference, ``env:NAME`` or ``file:PATH``, and show as ``***``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
)

from gateway.addresses import hands_out_credentials
from gateway.masking import remember_secret
from policies.presets import PROFILES
from policies.types import GOALS


def _resolve_secret(value: object) -> object:
    if not isinstance(value, str):
        return value
    secret = _read_secret(value).strip()
    if not secret or not _fits_header(secret):
        raise ValueError(f"{value} must hold a line of printable ASCII")
    remember_secret(secret)
    return secret


def _read_secret(reference: str) -> str:
    kind, _, where = reference.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ValueError(f"environment variable {where} is not set")
        return os.environ[where]
    if kind == "file":
        try:
            return Path(where).read_text()
        except OSError as error:
            raise ValueError(f"cannot read {where}: {error.strerror}") from error
    raise ValueError("write a secret as env:NAME or file:PATH, never in the file itself")


def _fits_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _check_name(name: str) -> str:
    if not name or not _fits_header(name):
        raise ValueError("a name must be printable ASCII, since response headers carry it")
    return name


def _check_url(url: HttpUrl) -> HttpUrl:
    if url.query is not None or url.fragment is not None:
        raise ValueError("a base URL has no query and no fragment")
    if url.username or url.password:
        raise ValueError("put credentials into api_key, not into the URL")
    if hands_out_credentials(url.host or ""):
        raise ValueError("no backend is there: clouds serve credentials at this address")
    return url


def _check_header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_|~-]+", name):  # RFC 9110 §5.6.2
        raise ValueError("this is no name of an HTTP header")
    return name


def _check_state_url(text: str) -> str:
    url = urlsplit(text)
    if text != "memory://" and (url.scheme not in {"redis", "rediss"} or not url.hostname):
        raise ValueError("must be memory://, redis://HOST:PORT/DB or rediss://HOST:PORT/DB")
    if url.username or url.password:
        raise ValueError("put credentials into state.username and state.password, not into the URL")
    if url.path.strip("/") and not url.path.strip("/").isdecimal():
        raise ValueError("the path of a Redis URL is the number of a database, as in /0")
    return text


def _check_collector(url: HttpUrl) -> HttpUrl:
    if url.query is not None or url.fragment is not None:
        raise ValueError("a collector's URL has no query and no fragment")
    if url.username or url.password:
        raise ValueError("put credentials into tracing.headers, not into the URL")
    if url.port == 4317:
        raise ValueError("4317 is OTLP over gRPC; name the port for HTTP, as a rule 4318")
    return url


def _check_profile(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"must be one of {', '.join(PROFILES)}")
    return name


def _check_goal(name: str) -> str:
    if name not in GOALS:
        raise ValueError(f"must be one of {', '.join(GOALS)}")
    return name


Secret = Annotated[SecretStr, BeforeValidator(_resolve_secret)]
BackendUrl = Annotated[HttpUrl, AfterValidator(_check_url)]
CollectorUrl = Annotated[HttpUrl, AfterValidator(_check_collector)]
HeaderName = Annotated[str, AfterValidator(_check_header_name)]
Name = Annotated[str, AfterValidator(_check_name)]
StateUrl = Annotated[str, AfterValidator(_check_state_url)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
ProfileName = Annotated[str, AfterValidator(_check_profile)]
GoalName = Annotated[str, AfterValidator(_check_goal)]
