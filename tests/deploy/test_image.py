"""The image without a Docker engine: its steps replayed in a folder, its Dockerfile held to hadolint.

``pytest -m image``. What stays unseen is the base image, and that Docker reads the file as we do.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.demo_process import free_port
from tests.deploy.gateway_process import GatewayProcess

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PLACES = ("/src", "/opt/thalamus")
#: What python:slim has of its own; libgomp is there because the Dockerfile installs it.
IN_BASE_IMAGE = {
    "ld-linux-x86-64", "libc", "libdl", "libgcc_s", "libgomp", "libm", "libpthread", "librt",
    "libstdc++", "libutil", "libz",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    word: str
    rest: str


def stages() -> tuple[list[Step], list[Step]]:
    """The instructions of the build stage and of the last one."""
    text = (ROOT / "Dockerfile").read_text()
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    steps = [
        Step(*line.split(None, 1))
        for line in kept.replace("\\\n", " ").splitlines()
        if line.strip()
    ]
    first, last = (i for i, step in enumerate(steps) if step.word == "FROM")
    return steps[first + 1 : last], steps[last + 1 :]


def moved(text: str, root: Path) -> str:
    for place in PLACES:
        text = text.replace(place, f"{root}{place}")
    return text


def replay(steps: list[Step], root: Path) -> None:
    """Do in ``root`` what Docker would do; an instruction that we do not know is an error."""
    python = root / "python"
    subprocess.run([sys.executable, "-m", "venv", python], check=True)
    # The rest of the environment tells how this machine reaches a package index.
    environment = {**os.environ, "PATH": f"{python}/bin:{os.environ['PATH']}", "HOME": str(root)}
    folder = root
    for step in steps:
        words = shlex.split(step.rest)
        match step.word:
            case "ENV":
                environment |= dict(moved(word, root).split("=", 1) for word in words)
            case "WORKDIR":
                folder = Path(moved(step.rest, root))
                folder.mkdir(parents=True)
            case "COPY":
                copy(words, folder)
            case "RUN":
                command = moved(step.rest, root)
                subprocess.run(["sh", "-c", command], check=True, cwd=folder, env=environment)
            case _:
                raise AssertionError(f"unknown instruction {step.word}")


def copy(words: list[str], folder: Path) -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    *sources, target = words
    for name in sources:
        assert f"!{name}" in allowed, f".dockerignore keeps {name} out"
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.partial")
            shutil.copytree(ROOT / name, folder / target, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, folder / target)


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A folder that anybody may read, with what the build stage leaves behind."""
    root = Path(tempfile.mkdtemp(prefix="thalamus-image-"))
    root.chmod(0o755)
    try:
        replay(stages()[0], root)
        shutil.rmtree(root / "src")
        yield root
    finally:
        subprocess.run(["chmod", "-R", "u+w", root], check=True)
        shutil.rmtree(root)


def test_hadolint_accepts_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_image_runs_without_privileges_in_a_tree_that_it_cannot_write(image: Path) -> None:
    last = {step.word: step.rest for step in stages()[1]}
    assert last["USER"] == "65532:65532"
    assert json.loads(last["ENTRYPOINT"]) == ["thalamus"]
    port = free_port()
    command = [f"{image}/opt/thalamus/bin/thalamus", *json.loads(last["CMD"]), "--port", str(port)]
    if os.getuid() == 0:  # without its capabilities root, too, is held to a folder's mode
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    subprocess.run(["chmod", "-R", "a-w", image / "opt"], check=True)
    log = image / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd="/",
            stdout=sink,
            stderr=sink,
            env={"PATH": f"{image}/opt/thalamus/bin:/usr/bin", "HOME": "/nonexistent"},
        )
    try:
        gateway = GatewayProcess(process, port, log)
        gateway.wait_until_ready(120)
        assert gateway.ask("What is 2 + 3?", max_tokens=8).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM), log.read_text()


def test_the_base_image_has_the_libraries_that_ours_need(image: Path) -> None:
    """A library that happens to lie on this machine would be missing in the image."""
    assert "libgomp1" in next(step.rest for step in stages()[1] if step.word == "RUN")
    needed = set()
    for library in (image / "opt/thalamus").rglob("*.so*"):
        done = subprocess.run(["ldd", library], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            found = line.split("=>")[-1].split("(")[0].strip()
            if found.startswith("/") and not found.startswith(str(image)):
                needed.add(Path(found).name.split(".so")[0])
            assert "not found" not in line or "bundled" in line, f"{library}: {line}"
    assert needed <= IN_BASE_IMAGE


def test_no_tool_of_development_is_in_the_image(image: Path) -> None:
    installed = {p.name.split("-")[0] for p in (image / "opt/thalamus").rglob("*.dist-info")}
    assert "thalamus" in installed
    assert not installed & {"pytest", "ruff", "mypy", "torch", "uv"}
    megabytes = sum(p.stat().st_size for p in image.rglob("opt/**/*") if p.is_file()) / 2**20
    print(f"{megabytes:.0f} MB beside the base image")
    assert megabytes < 550


def test_the_image_does_what_compose_asks_of_it(image: Path) -> None:
    """Its gateway's command and configuration, but for the port, and no Redis beside it."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"]
    source, target, _ = service["volumes"][0].split(":")
    words = [word.replace(target, str(ROOT / source)) for word in service["command"]]
    port = free_port()
    log = image / "log-compose"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [f"{image}/opt/thalamus/bin/thalamus", *words, "--port", str(port)],
            cwd="/",
            stdout=sink,
            stderr=sink,
            env={"PATH": f"{image}/opt/thalamus/bin:/usr/bin", "HOME": "/nonexistent"},
        )
    try:
        gateway = GatewayProcess(process, port, log)
        gateway.wait_until_ready(120)
        assert gateway.ask("What is 2 + 3?", max_tokens=8).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) in (0, -signal.SIGTERM), log.read_text()
