"""Does with a rendered pod what a kubelet would, in a folder of this machine.

Paths of the container lie beneath the folder, its port is a free one; command, arguments,
environment, configuration and probes are the manifest's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.demo_process import free_port
from tests.deploy.chart import Manifest, container, gateway_config, pod
from tests.deploy.gateway_process import THALAMUS, GatewayProcess

#: What the image's ENTRYPOINT is.
ENTRYPOINT = str(THALAMUS)


@dataclass
class Pod:
    folder: Path
    manifests: list[Manifest]
    secrets: Mapping[str, str] = field(default_factory=dict)
    #: Words of the configuration that mean another place on this machine.
    moved: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    generation: int = 0

    def here(self, text: str) -> str:
        """The text with the container's paths and addresses as they are on this machine."""
        mounts = [m["mountPath"] for m in container(self.manifests)["volumeMounts"]]
        for there, here in {**{m: f"{self.folder}{m}" for m in mounts}, **self.moved}.items():
            text = text.replace(there, here)
        return text

    def project_config(self, text: str) -> None:
        """Put a ConfigMap's file in place as the kubelet does: a new folder, and a link renamed."""
        mount = Path(self.here("/etc/thalamus"))
        mount.mkdir(parents=True, exist_ok=True)
        self.generation += 1
        fresh = mount / f"..{self.generation}"
        fresh.mkdir()
        (fresh / "thalamus.yaml").write_text(self.here(text))
        (mount / "..new").symlink_to(fresh.name)
        (mount / "..new").rename(mount / "..data")
        name = mount / "thalamus.yaml"
        if not name.is_symlink():
            name.symlink_to("..data/thalamus.yaml")

    def environment(self) -> dict[str, str]:
        told = {}
        for variable in container(self.manifests).get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            value = self.secrets[reference["name"]] if reference else variable["value"]
            told[variable["name"]] = value
        return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **told}

    def start(self) -> GatewayProcess:
        """Run init containers, then the gateway, until the startup probe is content."""
        for mount in container(self.manifests)["volumeMounts"]:
            Path(self.here(mount["mountPath"])).mkdir(parents=True, exist_ok=True)
        for init in pod(self.manifests).get("initContainers", ()):
            there = Path(self.here("/var/lib/thalamus-router"))
            words = [str(there) if word == "/to" else word for word in init["command"]]
            subprocess.run(words, check=True)
        arguments = [self.here(word) for word in container(self.manifests)["args"]]
        if "thalamus.yaml" in arguments[-1]:
            self.project_config(gateway_config(self.manifests))
        log = self.folder / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [ENTRYPOINT, *arguments, "--port", str(self.port)],
                stdout=sink,
                stderr=sink,
                cwd="/",
                env=self.environment(),
            )
        gateway = GatewayProcess(process, self.port, log)
        probe = container(self.manifests)["startupProbe"]
        for _ in range(probe["failureThreshold"]):
            if self.passes(probe):
                return gateway
            assert process.poll() is None, log.read_text()
            time.sleep(probe["periodSeconds"])
        raise AssertionError(log.read_text())

    def passes(self, probe: Mapping[str, Any]) -> bool:
        path = probe["httpGet"]["path"]
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            answer = httpx2.get(url, trust_env=False, timeout=probe["timeoutSeconds"])
        except httpx2.TransportError:
            return False
        return 200 <= answer.status_code < 400

    def is_ready(self) -> bool:
        return self.passes(container(self.manifests)["readinessProbe"])

    def wait_until_ready(self, limit_s: float = 60) -> None:
        deadline_s = time.monotonic() + limit_s
        while not self.is_ready():
            assert time.monotonic() < deadline_s, (self.folder / "log").read_text()
            time.sleep(0.2)


@contextmanager
def running(pod: Pod) -> Iterator[GatewayProcess]:
    """The pod's gateway, ready; ended at once afterwards."""
    pod.folder.mkdir(parents=True, exist_ok=True)
    gateway = pod.start()
    try:
        pod.wait_until_ready()
        yield gateway
    finally:
        for _ in range(2):  # the second ends its notice
            if gateway.process.poll() is None:
                gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(30)
