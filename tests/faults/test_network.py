"""The network to a backend: unanswered, unresolved, sliced, cut anywhere, hung, encrypted."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme

from tests.fakes.backend import (
    STREAM_HEAD,
    WHOLE,
    Connection,
    ScriptedBackend,
    chunked,
    completion,
    event,
    says,
    scripted_backend,
    streams,
)
from tests.fakes.proxy import FaultProxy, fault_proxy
from tests.faults.conftest import Stage, stage_with


@asynccontextmanager
async def stage_behind(url: str, **timeouts: float) -> AsyncIterator[Stage]:
    """Model ``first`` is served at ``url``; ``second`` answers well."""
    limits = {"connect_s": 0.3, "first_token_s": 0.4, "answer_s": 0.4, "idle_s": 0.3, **timeouts}
    async with stage_with(backend={"url": url}, **limits) as stage:
        stage.second.will(says(completion("from second")))
        yield stage
        await stage.census()


async def expect_second(stage: Stage, code: str) -> None:
    """The second model answers at once; the failure is counted as ``code`` and told nobody."""
    await asyncio.sleep(0.1)  # a probe may have found out before any request could
    for _, backend in stage.parts.catalog.backends:
        backend.health.is_up = None
    answer = await stage.ask()
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "from second"
    assert answer.headers["x-routing-attempts"] == "2"
    assert answer.headers["x-routing-fallback-from"] == "first"
    metrics = (await stage.client.get("/metrics")).text
    counted = [line for line in metrics.split("\n") if f'"{code}"' in line]
    assert any("upstream_attempts" in line for line in counted), metrics
    (row,) = stage.parts.ledger.recent
    assert (row.outcome, row.attempts) == ("ok", 2)


@contextmanager
def unanswered() -> Iterator[int]:
    """A port whose queue of connections is full: a SYN to it gets no answer."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


async def test_a_syn_that_nobody_answers_costs_the_connect_timeout() -> None:
    with unanswered() as port:
        async with stage_behind(f"http://127.0.0.1:{port}/v1") as stage:
            await expect_second(stage, "backend_unreachable")


async def test_a_name_that_does_not_resolve_is_tried_elsewhere() -> None:
    async with stage_behind("http://no-such-host.invalid:8000/v1") as stage:
        await expect_second(stage, "backend_unreachable")


# TLS


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that the gateway trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return made


@asynccontextmanager
async def tls_backend(certificate: trustme.LeafCert) -> AsyncIterator[ScriptedBackend]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    async with scripted_backend(context) as backend:
        backend.will(says(completion("over TLS")))
        yield backend


async def test_a_backend_over_tls_answers(authority: trustme.CA) -> None:
    async with (
        tls_backend(authority.issue_cert("localhost")) as backend,
        stage_behind(f"https://localhost:{backend.port}/v1", connect_s=2, answer_s=2) as stage,
    ):
        for _ in range(2):
            answer = await stage.ask()
            assert answer.json()["choices"][0]["message"]["content"] == "over TLS"


@pytest.mark.parametrize("fault", ["expired", "another name", "unknown authority"])
async def test_a_certificate_that_cannot_be_trusted_is_tried_elsewhere(
    authority: trustme.CA, fault: str
) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = {
        "expired": lambda: authority.issue_cert("localhost", not_after=past),
        "another name": lambda: authority.issue_cert("elsewhere.example"),
        "unknown authority": lambda: trustme.CA().issue_cert("localhost"),
    }[fault]()
    async with (
        tls_backend(certificate) as backend,
        stage_behind(f"https://localhost:{backend.port}/v1", connect_s=2) as stage,
    ):
        await expect_second(stage, "backend_unreachable")
        assert backend.requests == [], "nothing is ever said in clear or to the wrong one"


async def test_a_handshake_that_stalls_costs_the_connect_timeout(authority: trustme.CA) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with stage_behind(f"https://localhost:{port}/v1") as stage:
        await expect_second(stage, "backend_unreachable")
    server.close()


# through the fault proxy


@asynccontextmanager
async def proxied(*acts: object) -> AsyncIterator[tuple[Stage, FaultProxy, ScriptedBackend]]:
    async with scripted_backend() as backend, fault_proxy(backend.port) as proxy:
        backend.will(*acts)  # type: ignore[arg-type]
        async with stage_behind(proxy.url, first_token_s=2, answer_s=2) as stage:
            yield stage, proxy, backend


async def test_a_byte_at_a_time_gives_the_same_events() -> None:
    greeting = streams(event("Grüß "), event("你好\r\n"), event("", finish="stop"), WHOLE[-1])
    async with proxied(greeting) as (stage, proxy, _):
        whole = await stage.stream()
        proxy.toxics.slice_bytes = 1
        assert await stage.stream() == whole
        assert len(whole) == 4


ANSWER = STREAM_HEAD + chunked(*WHOLE)
FIRST_EVENT = len(STREAM_HEAD) + len(chunked(WHOLE[0]))
LAST_EVENT = ANSWER.index(b"[DONE]") + len("[DONE]\n\n\r\n")


@pytest.mark.parametrize("then", ["reset_peer", "limit_data", "timeout"])
async def test_a_cut_anywhere_is_a_failover_or_one_error_event_never_silence(then: str) -> None:
    """Every 29th byte of an answer: before the first event it moves, after it the client is told."""
    async with proxied(streams(*WHOLE)) as (stage, proxy, _):
        proxy.toxics.then = then
        second_says = streams(event("2"), event("", finish="stop"), WHOLE[-1])
        for limit in range(0, LAST_EVENT - 60, 29 if then != "timeout" else 149):
            stage.second.scripts.clear()
            stage.second.will(second_says)
            for _, backend in stage.parts.catalog.backends:
                backend.health.succeed(0.0)  # this test is not about the breaker
            proxy.toxics.limit_bytes = limit
            events = await stage.stream()
            ends = [e for e in events if e == "[DONE]" or '"error"' in e]
            assert len(ends) == 1, (limit, events)
            assert ends[0] == events[-1], (limit, events)
            if limit < len(STREAM_HEAD):
                assert '"second"' in events[0], (limit, events)
            elif limit > FIRST_EVENT:
                assert '"first"' in events[0], (limit, events)
                has_finish = any('"finish_reason":"stop"' in e.replace(" ", "") for e in events)
                assert (ends[0] == "[DONE]") <= has_finish, (limit, events)


async def test_a_slow_stream_is_a_good_stream_until_its_time_is_over() -> None:
    async def drips(connection: Connection) -> None:
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        await connection.write(STREAM_HEAD)
        while not leaving.done():
            connection.writer.write(chunked(event("a")))
            await asyncio.wait({leaving}, timeout=0.05)

    async with stage_with(idle_s=0.3, total_s=0.6) as stage:
        stage.first.will(drips)
        events = await stage.stream()
        assert len(events) > 3
        assert "longer than the time allowed" in events[-1]
        await asyncio.wait_for(stage.first.requests[0].left.wait(), 1)
        assert stage.parts.ledger.recent[0].outcome == "error"
        await stage.census()


async def test_comments_are_no_progress() -> None:
    async def only_breathes(connection: Connection) -> None:
        leaving = asyncio.ensure_future(connection.wait_until_client_leaves())
        await connection.write(STREAM_HEAD + chunked(event("a")))
        for _ in range(60):
            if leaving.done():
                break
            connection.writer.write(chunked(b": still here\n\n"))
            await asyncio.wait({leaving}, timeout=0.05)
        await leaving

    async with stage_with(idle_s=0.3, total_s=1.0) as stage:
        stage.first.will(only_breathes)
        events = await stage.stream()
        assert '"error"' in events[-1]
        await stage.census()
