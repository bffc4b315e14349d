"""Ten thousand requests, a tenth into a fault, a twentieth of the clients gone: nothing is lost.

``pytest -m load``; STORM_REQUESTS sets the number. The counts of backends, clients and ledger are
joined by request id: nobody is believed alone.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, deque
from typing import Any

import msgspec
import pytest

from gateway.ledger.accounting import LedgerRow
from tests.fakes.backend import (
    STREAM_HEAD,
    Act,
    Connection,
    chunked,
    json_answer,
    says,
    then_closes,
    then_resets,
)
from tests.fakes.oracle import answers_well, events_of
from tests.faults.conftest import Stage, eventually, stage_with
from tests.load.client import Seen, visit

pytestmark = [pytest.mark.load, pytest.mark.timeout(600)]
REQUESTS = int(os.environ.get("STORM_REQUESTS", "10000"))
CLIENTS = 64
FAULTS, BREAKS, LEAVERS = 0.08, 0.05, 0.09

ASK: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
}
#: What a backend does before the first event: all of it can be tried elsewhere.
BEFORE_COMMIT: list[Act] = [
    then_closes(),
    then_resets(),
    then_resets(b"HTTP/1.1 200 OK\r\ncontent-ty"),
    then_closes(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p/>"),
    then_closes(STREAM_HEAD),
    then_closes(b"not http at all\r\n\r\n"),
    says(json_answer({"error": {"message": "busy"}}, 503)),
    says(json_answer({"error": {"message": "slow down"}}, 429)),
    says(json_answer([], 200)),
]


async def breaks_off(connection: Connection) -> None:
    """Stream half of the answer, then reset, close, or talk nonsense."""
    events = events_of(connection.request.path)
    half = STREAM_HEAD + chunked(*events[: len(events) // 2])
    ends: list[Act] = [
        then_resets(half),
        then_closes(half),
        then_closes(half + chunked(b"data: {nonsense\n\n")),
    ]
    await ends[len(connection.request.headers["x-request-id"]) % 3](connection)


class Script(msgspec.Struct):
    """Which fault each request meets at its first attempt; later ones are answered well."""

    faults: dict[str, Act]
    met: set[str] = msgspec.field(default_factory=set)
    accepted: Counter[str] = msgspec.field(default_factory=Counter)

    async def act(self, connection: Connection) -> None:
        identity = connection.request.headers["x-request-id"]
        self.accepted[identity] += 1
        fault = None if identity in self.met else self.faults.get(identity)
        self.met.add(identity)
        await (fault or answers_well)(connection)


class Visit(msgspec.Struct, frozen=True):
    identity: str
    path: str
    is_stream: bool
    leaves_after: int | None


def written(rng: random.Random) -> tuple[list[Visit], dict[str, Act]]:
    """The whole storm, decided beforehand."""
    visits, faults = [], {}
    for index in range(REQUESTS):
        identity = f"r{'-' * (index % 3)}{index}"
        is_stream = rng.random() < 0.6
        path = rng.choice(list(ASK))
        chance = rng.random()
        if chance < FAULTS:
            faults[identity] = rng.choice(BEFORE_COMMIT)
        elif chance < FAULTS + BREAKS and is_stream:
            faults[identity] = breaks_off
        leaves_after = rng.randrange(3) if rng.random() < LEAVERS else None
        visits.append(Visit(identity, path, is_stream, leaves_after))
    return visits, faults


async def sent(stage: Stage, visits: list[Visit]) -> dict[str, Seen]:
    waiting = deque(visits)
    seen: dict[str, Seen] = {}

    async def client() -> None:
        while waiting:
            this = waiting.popleft()
            body = {"model": "auto", "stream": this.is_stream, **ASK[this.path]}
            seen[this.identity] = await visit(
                stage.port, this.path, this.identity, body, this.leaves_after
            )

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return seen


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_nothing_is_lost_doubled_or_left_behind() -> None:
    visits, faults = written(random.Random(7))
    script = Script(faults)
    async with stage_with(first_token_s=5, idle_s=5, send_s=5) as stage:
        rows: deque[LedgerRow] = deque()
        stage.parts.ledger.recent = rows
        for backend in (stage.first, stage.second):
            backend.will(script.act)
        await sent(stage, [Visit("warm", "/v1/responses", False, None)])
        await asyncio.sleep(3.5)  # past the life of idle connections
        idle = (open_files(), len(asyncio.all_tasks()))
        seen = await sent(stage, visits)
        await stage.census()
        await eventually(
            lambda: open_files() <= idle[0] + 4 and len(asyncio.all_tasks()) <= idle[1] + 4,
            limit_s=10,
        )
        _judge(visits, faults, seen, script, rows)


def _judge(
    visits: list[Visit],
    faults: dict[str, Act],
    seen: dict[str, Seen],
    script: Script,
    rows: deque[LedgerRow],
) -> None:
    counted = Counter(row.request_id for row in rows)
    lost, wrong_ends = [], []
    for this in visits:
        told = seen[this.identity]
        if told.has_left:
            continue
        is_broken = faults.get(this.identity) is breaks_off
        if told.status != 200 or (told.is_error and not is_broken):
            lost.append((this, told))
        if told.is_stream and (told.terminals != 1 or told.bytes_after_end):
            wrong_ends.append((this, told))
        if is_broken and not told.is_error:
            wrong_ends.append((this, told))
    stayed = {identity for identity, told in seen.items() if not told.has_left}
    missing = (stayed | set(script.accepted)) - set(counted)
    doubled = [identity for identity, count in counted.items() if count > 1]
    retried_after_commit = [
        identity
        for identity, act in faults.items()
        if act is breaks_off and script.accepted[identity] > 1
    ]
    left = sum(told.has_left for told in seen.values())
    print(
        f"\n{len(visits)} requests, {len(faults)} faults, {left} clients left: {len(lost)} lost, "
        f"{len(wrong_ends)} wrong ends, {len(missing)} rows missing, {len(doubled)} doubled"
    )
    assert len(seen) == len(visits)
    assert lost == []
    assert wrong_ends == []
    assert missing == set()
    assert doubled == []
    assert retried_after_commit == []
    assert max(script.accepted.values()) <= 3
    assert len(faults) >= 0.1 * len(visits)
    assert left >= 0.05 * len(visits)
