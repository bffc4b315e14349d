"""A backend's URL comes from the configuration alone, and may not name where credentials are served."""

from __future__ import annotations

import pytest

from gateway.config import parse_config
from gateway.errors import ConfigError


def configured_with(url: str) -> str:
    config = parse_config({"models": {"m": {"backends": [{"url": url}]}}}, "the test")
    return config.models["m"].backends[0].address


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://2852039166/latest",  # the same address as one number
        "http://0xa9.0xfe.0xa9.0xfe/latest",
        "http://[::ffff:169.254.169.254]/latest",
        "http://[fe80::1]/v1",
        "http://[fd00:ec2::254]/latest",  # AWS, over IPv6
        "http://100.100.100.200/latest",  # Alibaba
        "http://168.63.129.16/machine",  # Azure
        "file:///etc/passwd",
        "gopher://127.0.0.1/v1",
        "http://user:word@127.0.0.1/v1",
    ],
)
def test_an_address_that_is_no_backend_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.backends\.0\.url"):
        configured_with(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://vllm.example/v1"])
def test_an_ordinary_address_is_taken(url: str) -> None:
    assert configured_with(url) == url
