"""The Kustomize files are the chart's, and what kubectl makes of them is what helm makes of it.

``pytest -m charts``
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes import generate
from deploy.kubernetes.generate import COMPONENTS, FOLDER, OVERLAYS, rendered, values_of
from gateway.config import load_config
from tests.deploy.chart import Manifest, complaints
from tests.deploy.chart_tools import HELM, KUBECTL

pytestmark = pytest.mark.charts

#: Resources that a cluster has once; the namespace is Kustomize's to set.
WRITTEN = ("base", "components", "overlays")


def built(folder: Path) -> dict[str, Manifest]:
    """What ``kubectl kustomize`` prints, by kind and name."""
    done = subprocess.run(
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    manifests = list(yaml.safe_load_all(done.stdout))
    return {f"{m['kind']}-{m['metadata']['name']}".lower(): m for m in manifests}


def built_beside(folder: Path, files: dict[str, str]) -> dict[str, Manifest]:
    """What comes of an overlay of one's own in a copy of the repository's."""
    deploy = folder / "deploy"
    for part in ("kubernetes", "grafana"):
        shutil.copytree(FOLDER.parent / part, deploy / part)
    overlay = deploy / "kubernetes/overlays/own"
    overlay.mkdir()
    for name, text in files.items():
        (overlay / name).write_text(text)
    return built(overlay)


def comparable(manifests: dict[str, Manifest]) -> dict[str, Any]:
    """Without the namespace, which kustomize writes down, and comments of generated files."""
    for manifest in manifests.values():
        manifest["metadata"].pop("namespace", None)
        data = manifest.get("data", {})
        if "thalamus.yaml" in data:
            data["thalamus.yaml"] = yaml.safe_load(data["thalamus.yaml"])
    return manifests


def test_the_written_files_are_what_the_chart_makes() -> None:
    made = {FOLDER / name: text for name, text in generate.files(HELM).items()}
    made[generate.RULE_FILE] = generate.prometheus_rule()
    found = {path: path.read_text() for name in WRITTEN for path in (FOLDER / name).rglob("*.yaml")}
    assert found == made, "run python -m deploy.kubernetes.generate .chart-tools/helm"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_builds_what_helm_renders(overlay: str) -> None:
    components, more = OVERLAYS[overlay]
    folder = FOLDER / "overlays" / overlay
    assert comparable(built(folder)) == comparable(rendered(HELM, values_of(components, more)))


def test_the_base_builds_what_helm_renders() -> None:
    assert comparable(built(FOLDER / "base")) == comparable(rendered(HELM, generate.BASE))


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_goes_onto_the_base(component: str, tmp_path: Path) -> None:
    kustomization = {
        "resources": ["../../base"],
        "components": [f"../../components/{component}"],
    }
    manifests = built_beside(tmp_path, {"kustomization.yaml": yaml.safe_dump(kustomization)})
    assert not [c for manifest in manifests.values() for c in complaints(manifest)]
    expected = comparable(rendered(HELM, values_of((component,), {})))
    made = comparable(manifests)
    # The configuration is the overlay's to bring: the component cannot reach into a file.
    del expected["configmap-thalamus"], made["configmap-thalamus"]
    assert made == expected


@pytest.mark.parametrize("folder", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
def test_kubernetes_and_the_gateway_take_it(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = built(FOLDER / folder)
    assert not [c for manifest in manifests.values() for c in complaints(manifest)]
    assert {m["metadata"].get("namespace") for m in manifests.values()} == {"thalamus"}
    monkeypatch.setenv("THALAMUS_ADMIN_KEY", "a-secret")
    path = tmp_path / "thalamus.yaml"
    path.write_text(manifests["configmap-thalamus"]["data"]["thalamus.yaml"])
    assert load_config(path).server.watch_config


def test_the_overlay_of_the_page_builds(tmp_path: Path) -> None:
    page = (FOLDER / "README.md").read_text()
    (kustomization,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    config = (FOLDER / "base/thalamus.yaml").read_text().replace("qwen3-30b-a3b", "ours")
    files = {"kustomization.yaml": kustomization, "thalamus.yaml": config}
    manifests = built_beside(tmp_path, files)
    assert not [c for manifest in manifests.values() for c in complaints(manifest)]
    assert "ours" in manifests["configmap-thalamus"]["data"]["thalamus.yaml"]
    (container,) = manifests["deployment-thalamus"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "REGISTRY/thalamus:0.1.0"
    assert container["envFrom"] == [{"secretRef": {"name": "vllm"}}]
    assert {"horizontalpodautoscaler-thalamus", "statefulset-thalamus-redis"} <= set(manifests)
