"""What is installed runs nothing by itself, and all that it needs is pinned with its hash."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [uv, "build", "--wheel", "--quiet", "--out-dir", folder, ROOT],
        check=True,
        timeout=100,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_our_packages_and_nothing_that_starts_by_itself(wheel: Path) -> None:
    """A .pth file runs at every start of Python, whoever imports what."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    ours = ("gateway/", "policies/", "router_models/")
    beside = re.compile(r"thalamus-[\d.]+\.(dist-info|data/data/share)/")
    assert [name for name in names if not name.startswith(ours) and not beside.match(name)] == []
    assert not [name for name in names if name.endswith((".pth", ".egg-link", ".so", ".pyc"))]
    assert not [name for name in names if "sitecustomize" in name or "usercustomize" in name]


def test_every_dependency_is_pinned_with_a_hash() -> None:
    lock = (ROOT / "uv.lock").read_text()
    packages = lock.split("[[package]]")[1:]
    assert len(packages) > 50
    for package in packages:
        name = re.search(r'name = "([^"]+)"', package)
        assert name is not None
        if 'source = { editable = "." }' in package or "source = { virtual" in package:
            continue
        files = re.findall(r"\{ url = [^}]*\}", package)
        assert files, name[1]
        assert all('hash = "sha256:' in file for file in files), name[1]


@pytest.mark.parametrize("package", ["gateway.app", "policies", "router_models.suite"])
def test_importing_opens_no_socket_and_writes_no_file(package: str, tmp_path: Path) -> None:
    probe = f"""
import sys
def watch(event, args):
    if event in ("socket.connect", "socket.bind", "os.mkdir", "os.remove", "subprocess.Popen"):
        print("BAD", event, args)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        print("BAD", event, args)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
import {package}
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
