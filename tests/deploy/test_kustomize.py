"""The Kustomize files are the chart's, and what kubectl makes of them is what helm makes of it.

``pytest -m charts``
"""

from __future__ import annotations

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
    overlay = FOLDER / "overlays" / f"try-{component}"
    overlay.mkdir()
    try:
        kustomization = {
            "resources": ["../../base"],
            "components": [f"../../components/{component}"],
        }
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        manifests = built(overlay)
    finally:
        for path in overlay.iterdir():
            path.unlink()
        overlay.rmdir()
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
