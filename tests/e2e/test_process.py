"""Starting and stopping as a user does: clear words when it cannot start, nothing left when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.demo_process import THALAMUS, free_port, start_demo, stop_demo


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def is_alive(pid: int) -> bool:
    try:
        # A zombie has ended: only its parent has not asked yet.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends_soon(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the process table of Linux")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_however_the_gateway_ends(end: signal.Signals) -> None:
    demo = start_demo(free_port())
    try:
        demo.wait_until_ready()
        (engine,) = children_of(demo.process.pid)
        demo.process.send_signal(end)
        demo.process.wait(timeout=20)
        assert ends_soon(engine)
        assert "Traceback" not in demo.said()
    finally:
        stop_demo(demo)


def test_a_warm_start_takes_less_than_ten_seconds_and_says_how_to_go_on() -> None:
    demo = start_demo(free_port())
    try:
        demo.wait_until_ready(limit_s=10)
    finally:
        demo.process.send_signal(signal.SIGINT)
        demo.process.wait(timeout=20)
    said = demo.said()
    demo.log.close()
    assert f"curl {demo.url}/v1/chat/completions" in said
    assert "from openai import OpenAI" in said
    assert f"{demo.url}/console/" in said


def complaint_of(*args: str, lines: int = 1, **environment: str) -> str:
    done = subprocess.run(
        [THALAMUS, *args],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("thalamus: ")
    assert done.stderr.count("\n") == lines
    return done.stderr


def test_a_busy_port_is_one_line_that_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        complaint = complaint_of("demo", "--port", str(port))
    assert f"port {port} is in use" in complaint
    assert f"make run PORT={port + 1}" in complaint


def test_a_missing_configuration_is_one_line_that_names_it(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert str(missing) in complaint_of("serve", "--config", str(missing))


def test_every_wrong_key_is_one_line_that_names_its_path(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "models: {m: {backends: [{url: 'http://127.0.0.1:1/v1', adress: x}]}}\nserver: {prot: 1}\n"
    )
    complaint = complaint_of("check-config", str(wrong), lines=2)
    assert "server.prot: unknown key" in complaint
    assert "models.m.backends.0.adress: unknown key" in complaint


def test_a_router_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"models: {{m: {{backends: [{{url: 'http://127.0.0.1:1/v1'}}]}}}}\n"
        f"router: {{artifact: {tmp_path}/no-such-router}}\nserver: {{port: {free_port()}}}\n"
    )
    assert "no-such-router" in complaint_of("serve", "--config", str(config))


def test_what_the_demo_cannot_take_from_a_file_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("models: {m: {backends: [{url: 'http://127.0.0.1:1/v1'}]}}\n")
    assert "demo has its own" in complaint_of("demo", "--config", str(config))
    config.write_text("server: {workers: 2}\n")
    assert "demo is one process" in complaint_of("demo", "--config", str(config))
    config.write_text("server: {prot: 1}\n")
    assert ":1:10: server.prot: unknown key" in complaint_of("demo", "--config", str(config))


def test_keys_of_a_demo_are_made_by_its_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"auth: {{mode: keys, keys: {tmp_path}/keys.db}}\n")
    words = ("keys", "--config", str(config), "create", "me")
    subprocess.run([THALAMUS, *words], check=True, timeout=30, capture_output=True)
    assert (tmp_path / "keys.db").exists()
