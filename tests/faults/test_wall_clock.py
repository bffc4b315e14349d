"""The wall clock of a real process jumps by hours, under Debian's libfaketime: nobody pays for it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from gateway.tenancy.key_file import KeyFile
from gateway.tenancy.keys import KeyPolicy, make_key
from tests.deploy.gateway_process import GatewayProcess, answering_backend, running_gateway
from tests.faults.test_open_files import census, open_files, rows, wait_until
from tests.faults.test_stalls import CHUNKS, paced

pytestmark = pytest.mark.clock
START = datetime.datetime(2027, 3, 1, 22, 30, tzinfo=datetime.UTC)
#: A request of ``MAX_TOKENS`` costs 52 millionths of a dollar: the day's budget is three of them.
BUDGET_USD, COST_USD, MAX_TOKENS = 180e-6, 52e-6, 4


def library() -> Path:
    found = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "apt-get install libfaketime"
    return found[0]


class WallClock:
    """The time of day as the gateway sees it; what it measures durations with goes on as ever."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "now"
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "TZ": "UTC",
        }

    def set(self, hours: float) -> None:
        """So many hours after START, or before it."""
        then = START + datetime.timedelta(hours=hours)
        offset_s = round(then.timestamp() - time.time())
        self._file.write_text(f"{offset_s:+d}\n")


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.db")


@pytest.fixture
def gateway(tmp_path: Path, clock: WallClock, file: KeyFile) -> Iterator[GatewayProcess]:
    auth = {"mode": "keys", "keys": str(file.path)}
    with (
        answering_backend(paced) as backend,
        running_gateway(
            tmp_path, backend=backend, environment=clock.environment, auth=auth
        ) as running,
    ):
        yield running


def issue(file: KeyFile, policy: KeyPolicy, expires_in_h: float | None = None) -> str:
    made_s = START.timestamp() - 60
    expires_s = None if expires_in_h is None else START.timestamp() + expires_in_h * 3600
    token, key = make_key("test", policy, made_s, expires_s)
    file.add(key)
    return token


def status(gateway: GatewayProcess, token: str) -> int:
    return gateway.ask("Hi", key=token, max_tokens=MAX_TOKENS).status_code


def known(gateway: GatewayProcess, token: str) -> None:
    """Wait until the gateway has read the file of keys."""
    models = f"{gateway.url}/v1/models"
    headers = {"authorization": f"Bearer {token}"}
    wait_until(lambda: httpx2.get(models, headers=headers, trust_env=False).status_code == 200)


def test_requests_and_streams_go_on_and_their_durations_are_true(
    gateway: GatewayProcess, clock: WallClock, file: KeyFile
) -> None:
    token = issue(file, KeyPolicy())
    known(gateway, token)
    idle_files = open_files(gateway)
    for hours in (1, -1, 0):
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(gateway.ask, "Hi", key=token, stream=True)
            wait_until(lambda: gateway.metric("thalamus_inflight") == 1)
            clock.set(hours)
            assert status(gateway, token) == 200
            text = stream.result(15).text
        assert text.count('"content": "a"') == CHUNKS
        assert text.count("data: [DONE]") == 1
    census(gateway, idle_files, requests=6)
    assert all(0 < float(str(row["duration_ms"])) < 15_000 for row in rows(gateway))
    told_s = [float(str(row["at_s"])) - START.timestamp() for row in rows(gateway)]
    assert min(told_s) < -3_000 < 3_000 < max(told_s), "the gateway's wall clock did jump"
    assert gateway.metric("thalamus_backend_up") == 2


def test_a_rate_lets_no_more_through_for_a_clock_that_jumps(
    gateway: GatewayProcess, clock: WallClock, file: KeyFile
) -> None:
    token = issue(file, KeyPolicy(requests_per_minute=2))
    known(gateway, token)
    began_s = time.monotonic()
    statuses = []
    for hours in (0, 1, -1, 24, 0):
        clock.set(hours)
        statuses += [status(gateway, token) for _ in range(2)]
    earned = int((time.monotonic() - began_s) / 30)
    assert 2 <= statuses.count(200) <= 2 + earned
    assert set(statuses) == {200, 429}


def test_a_days_budget_is_given_once_whatever_the_clock_does(
    gateway: GatewayProcess, clock: WallClock, file: KeyFile
) -> None:
    token = issue(file, KeyPolicy(budget_usd_per_day=BUDGET_USD))
    known(gateway, token)

    def spend() -> list[int]:
        return [status(gateway, token) for _ in range(4)]

    assert spend() == [200, 200, 200, 402]
    clock.set(1)  # half past eleven, the same day
    assert spend() == [402] * 4
    clock.set(2)  # half past midnight
    assert spend() == [200, 200, 200, 402]
    clock.set(0)  # and back
    assert spend() == [402] * 4
    clock.set(2)
    assert spend() == [402] * 4
    paid = [row for row in rows(gateway) if row["outcome"] == "ok"]
    assert len(paid) == 6
    wait_until(lambda: sum(file.spent("2027-03").values()) == round(6 * COST_USD * 1e9))


def test_only_what_ends_by_the_wall_clock_goes_by_it(
    gateway: GatewayProcess, clock: WallClock, file: KeyFile
) -> None:
    lasting = issue(file, KeyPolicy(), expires_in_h=24 * 30)
    short = issue(file, KeyPolicy(), expires_in_h=0.5)
    for token in (lasting, short):
        known(gateway, token)
    clock.set(1)
    assert (status(gateway, lasting), status(gateway, short)) == (200, 401)
    clock.set(0)
    assert (status(gateway, lasting), status(gateway, short)) == (200, 200)
