"""The configuration: every mistake is named by its path, and no secret ever shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_config, parse_config
from gateway.errors import ConfigError
from gateway.settings import Config

URL = "http://127.0.0.1:1/v1"


def with_backend(**backend: Any) -> dict[str, Any]:
    return {"models": {"m": {"backends": [{"url": URL, **backend}]}}}


def traced(**tracing: Any) -> dict[str, Any]:
    return {**with_backend(), "tracing": {"endpoint": "http://tempo:4318", **tracing}}


def complaint(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_config(document, "c.yaml")
    return raised.value.message


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({**with_backend(), "sever": {}}, "sever: unknown key"),
        ({**with_backend(), "server": {"prot": 1}}, "server.prot: unknown key"),
        ({**with_backend(), "server": {"port": 70000}}, "server.port: "),
        ({**with_backend(), "timeouts": {"idle_s": float("nan")}}, "timeouts.idle_s: "),
        (with_backend(adress="x"), "models.m.backends.0.adress: unknown key"),
        (with_backend(url="ftp://x"), "models.m.backends.0.url: "),
        (with_backend(url="http://me:pw@host/v1"), "models.m.backends.0.url: "),
        ({"models": {}}, "models: "),
        ({"models": {"m": {"backends": []}}}, "models.m.backends: "),
        ({"models": {"auto": {"backends": [{"url": URL}]}}}, "models.auto: "),
        ({"models": {"λ": {"backends": [{"url": URL}]}}}, "models.λ"),
        ({"models": {"a\r\nb": {"backends": [{"url": URL}]}}}, "models."),
        (with_backend(name="a\nb"), "models.m.backends.0.name: "),
        (with_backend(url=f"{URL}?key=1"), "models.m.backends.0.url: "),
        ({"models": {"router-x": {"backends": [{"url": URL}]}}}, "models.router-x: "),
        ({**with_backend(), "auth": {"mode": "keys"}, "server": {"workers": 2}}, "auth.mode: "),
        (
            {**with_backend(), "server": {"workers": 2, "watch_config": True}},
            "server.watch_config: one process",
        ),
        ({**with_backend(), "server": {"workers": 2, "notice_s": 5}}, "server.notice_s: one "),
        ({**with_backend(), "router": {"sha256": "ABC"}}, "router.sha256: "),
        ({**with_backend(), "state": {"url": "redis://u:p@x"}}, "state.url: put credentials"),
        ({**with_backend(), "tracing": {}}, "tracing.endpoint: "),
        (traced(endpoint="http://tempo:4317"), "tracing.endpoint: 4317 is OTLP over gRPC"),
        (traced(endpoint="http://tempo:4318/?a=1"), "tracing.endpoint: "),
        (traced(endpoint="http://u:p@tempo:4318"), "tracing.endpoint: put credentials"),
        (traced(endpoint="tempo:4318"), "tracing.endpoint: "),
        (traced(sample_ratio=1.5), "tracing.sample_ratio: "),
        (traced(headers={"a b": "file:/etc/hostname"}), "tracing.headers.a b"),
        (traced(headers={"authorization": "Basic c2VjcmV0"}), "write a secret as env:NAME"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(document: dict[str, Any], path: str) -> None:
    assert path in complaint(document)


def test_a_secret_comes_by_reference_and_never_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "canary-1")
    (tmp_path / "key").write_text("canary-2\n")
    for reference, secret in (("env:SOME_KEY", "canary-1"), (f"file:{tmp_path}/key", "canary-2")):
        config = parse_config(with_backend(api_key=reference), "c.yaml")
        key = config.models["m"].backends[0].api_key
        assert key is not None
        assert key.get_secret_value() == secret
        assert secret not in repr(config) + config.model_dump_json()


def test_a_secret_that_is_not_a_reference_is_refused_unquoted() -> None:
    said = complaint(with_backend(api_key="sk-canary"))
    assert "env:NAME" in said
    assert "canary" not in said


@pytest.mark.parametrize("reference", ["env:NO_SUCH_VARIABLE_HERE", "file:/no/such/file"])
def test_a_reference_to_nothing_says_so(reference: str) -> None:
    assert reference.partition(":")[2] in complaint(with_backend(api_key=reference))


@pytest.mark.parametrize("secret", ["", " \n", "canary\r\nx-other: 1", "canary-λ"])
def test_a_secret_that_no_header_can_carry_is_refused_unquoted(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("SOME_KEY", secret)
    said = complaint(with_backend(api_key="env:SOME_KEY"))
    assert "models.m.backends.0.api_key: env:SOME_KEY" in said
    assert "canary" not in said


def test_the_line_end_of_a_secret_is_not_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "canary\n")
    key = (
        parse_config(with_backend(api_key="env:SOME_KEY"), "c.yaml").models["m"].backends[0].api_key
    )
    assert key is not None
    assert key.get_secret_value() == "canary"


@pytest.mark.parametrize(
    "text", [b"models: [", b"- a\n- b", b"", b"42", b"\xff\xfe", b"[" * 20_000, b"server: 5"]
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(path, port=1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such\.yaml"):
        load_config(tmp_path / "no-such.yaml")


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"models: {{m: {{backends: [{{url: '{URL}'}}]}}}}\nserver: {{port: 1}}\n")
    assert load_config(path, port=2, workers=None).server.port == 2
    assert load_config(path).server.port == 1


def test_the_tree_is_frozen() -> None:
    config: Config = parse_config(with_backend(), "c.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]
