"""A Kustomize base, components and overlays, made of what the Helm chart renders.

python -m deploy.kubernetes.generate HELM     # HELM: the program; writes base, components, overlays

There is one description of the deployment, the chart; these files are for who wants no helm in the
cluster's way. What a switch of the chart adds becomes a component, what it changes a patch in it.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
CHART = FOLDER.parent / "helm" / "thalamus"
NAMESPACE = RELEASE = "thalamus"
_WRITTEN = (
    "# Written by python -m deploy.kubernetes.generate from the Helm chart; a test compares.\n"
)
_LABELS_OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by")
_GENERATOR = {"disableNameSuffixHash": True}

Manifest = dict[str, Any]
Values = dict[str, Any]

BASE: Values = {
    "config": {
        "models": {
            "qwen3-30b-a3b": {
                "backends": [{"url": "http://vllm:8000/v1"}],
                "context_tokens": 32768,
                "parameters_b": 30.5,
                "active_parameters_b": 3.3,
                "quality_prior": 0.72,
            }
        }
    }
}
#: The chart's switches that exist here, each as a component.
COMPONENTS: dict[str, Values] = {
    "admin": {"admin": {"secret": "thalamus-admin"}},
    "hpa": {"autoscaling": {"enabled": True}},
    "keda": {
        "keda": {"enabled": True, "serverAddress": "http://prometheus-operated.monitoring:9090"}
    },
    "monitoring": {
        "metrics": {
            name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards")
        }
    },
    "redis": {"redis": {"enabled": True}},
}
#: Components together, and the configuration that goes with them.
OVERLAYS: dict[str, tuple[tuple[str, ...], Values]] = {
    "production": (
        ("admin", "keda", "monitoring", "redis"),
        {"config": {"auth": {"mode": "keys"}, **BASE["config"]}},
    ),
}


def values_of(components: tuple[str, ...], more: Values) -> Values:
    """The chart's values that an overlay stands for."""
    values = {**BASE, **more}
    for name in components:
        values |= COMPONENTS[name]
    return values


def rendered(helm: Path, values: Values) -> dict[str, Manifest]:
    """What the chart makes, without what only helm reads, by kind and name."""
    words = ("template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", "-")
    text = subprocess.run(  # noqa: S603
        [helm, *words], input=yaml.safe_dump(values), capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for manifest in yaml.safe_load_all(text):
        if manifest and "helm.sh/hook" not in manifest["metadata"].get("annotations", {}):
            _forget_helm(manifest)
            found[f"{manifest['kind']}-{manifest['metadata']['name']}".lower()] = manifest
    return found


def _forget_helm(node: Any) -> None:
    """Drop labels and sums that helm alone keeps up to date."""
    if isinstance(node, dict):
        for label in _LABELS_OF_HELM:
            node.pop(label, None)
        if node.pop("checksum/config", None) is not None and not node:
            node["thalamus/rendered"] = "kustomize"
        for value in node.values():
            _forget_helm(value)
    elif isinstance(node, list):
        for value in node:
            _forget_helm(value)


def difference(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The JSON patch (RFC 6902) from one to the other; a list that grew gets its new entries."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            where = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"op": "remove", "path": where}
            elif key not in before:
                yield {"op": "add", "path": where, "value": after[key]}
            else:
                yield from difference(before[key], after[key], where)
    elif isinstance(before, list) and isinstance(after, list) and len(before) <= len(after):
        for index, value in enumerate(before):
            yield from difference(value, after[index], f"{path}/{index}")
        for value in after[len(before) :]:
            yield {"op": "add", "path": f"{path}/-", "value": value}
    elif before != after:
        yield {"op": "replace", "path": path, "value": after}


def _config(manifests: dict[str, Manifest]) -> str:
    text: str = manifests["configmap-thalamus"]["data"]["thalamus.yaml"]
    return text


def prometheus_rule() -> str:
    """What the chart makes of deploy/prometheus/rules.yml; Kustomize cannot wrap a file."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": RELEASE, "labels": _labels()},
        "spec": yaml.safe_load((FOLDER.parent / "prometheus/rules.yml").read_text()),
    }
    return _dump(manifest)


def dashboards() -> str:
    """A component beside the dashboards, since Kustomize reads no file from above its own folder."""
    labels = {**_labels(), "grafana_dashboard": "1"}
    generators = [
        {
            "name": f"{RELEASE}-{path.stem}",
            "files": [f"dashboards/{path.name}"],
            "options": {"labels": labels},
        }
        for path in sorted((FOLDER.parent / "grafana/dashboards").glob("*.json"))
    ]
    content = {"configMapGenerator": generators, "generatorOptions": _GENERATOR}
    return _kustomization(content, "Component")


#: Files that follow others than the chart's, and are written without helm.
RULE_FILE = FOLDER / "components/monitoring/prometheusrule-thalamus.yaml"
DASHBOARDS_FILE = FOLDER.parent / "grafana/kustomization.yaml"


def _labels() -> dict[str, str]:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    return {
        "app.kubernetes.io/name": RELEASE,
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/version": str(version),
    }


def files(helm: Path) -> dict[str, str]:
    """The text of every other file by its path in this folder."""
    base = rendered(helm, BASE)
    made = {f"base/{name}": text for name, text in _base(base).items()}
    for component, values in COMPONENTS.items():
        after = rendered(helm, {**BASE, **values})
        made |= {f"components/{component}/{n}": t for n, t in _component(base, after).items()}
    for overlay, (components, more) in OVERLAYS.items():
        config = _config(rendered(helm, values_of(components, more)))
        kustomization = {
            "namespace": NAMESPACE,
            "resources": ["../../base"],
            "components": [f"../../components/{name}" for name in components],
            "configMapGenerator": [
                {"name": RELEASE, "behavior": "replace", "files": ["thalamus.yaml"]}
            ],
            "generatorOptions": _GENERATOR,
        }
        made[f"overlays/{overlay}/kustomization.yaml"] = _kustomization(kustomization)
        made[f"overlays/{overlay}/thalamus.yaml"] = _WRITTEN + config
    return made


def _base(manifests: dict[str, Manifest]) -> dict[str, str]:
    whole = {n: m for n, m in manifests.items() if n != "configmap-thalamus"}
    kustomization = {
        "namespace": NAMESPACE,
        "resources": [f"{name}.yaml" for name in sorted(whole)],
        # Its name stays, so that the kubelet replaces the file and the gateway takes it up.
        "configMapGenerator": [
            {"name": RELEASE, "files": ["thalamus.yaml"], "options": {"labels": _labels()}}
        ],
        "generatorOptions": _GENERATOR,
    }
    return {
        "kustomization.yaml": _kustomization(kustomization),
        "thalamus.yaml": _WRITTEN + _config(manifests),
        **{f"{name}.yaml": _dump(manifest) for name, manifest in whole.items()},
    }


def _component(before: dict[str, Manifest], after: dict[str, Manifest]) -> dict[str, str]:
    fresh = {name: manifest for name, manifest in after.items() if name not in before}
    boards = [name for name in fresh if name.startswith("configmap-")]
    patches = []
    for name in sorted(before.keys() & after.keys() - {"configmap-thalamus"}):
        if operations := list(difference(before[name], after[name])):
            metadata = before[name]["metadata"]
            target = {"kind": before[name]["kind"], "name": metadata["name"]}
            patches.append({"target": target, "patch": yaml.safe_dump(operations, sort_keys=False)})
    resources = [f"{name}.yaml" for name in sorted(fresh) if name not in boards]
    kustomization: dict[str, Any] = {"resources": resources}
    if boards:
        kustomization["components"] = ["../../../grafana"]
    if patches:
        kustomization["patches"] = patches
    made = {
        f"{name}.yaml": _dump(manifest)
        for name, manifest in fresh.items()
        if name not in boards and manifest["kind"] != "PrometheusRule"
    }
    return {"kustomization.yaml": _kustomization(kustomization, "Component"), **made}


def _kustomization(content: dict[str, Any], kind: str = "Kustomization") -> str:
    group = "v1alpha1" if kind == "Component" else "v1beta1"
    head = {"apiVersion": f"kustomize.config.k8s.io/{group}", "kind": kind}
    return _dump({**head, **copy.deepcopy(content)})


class _Readable(yaml.SafeDumper):
    """Texts of several lines as blocks."""


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _as_block)


def _dump(manifest: Manifest) -> str:
    return _WRITTEN + yaml.dump(manifest, Dumper=_Readable, sort_keys=False, width=100)


def main(helm: Path) -> None:
    made = files(helm)
    for folder in ("base", "components", "overlays"):
        for path in (FOLDER / folder).rglob("*.yaml"):
            path.unlink()
    made_here = {FOLDER / name: text for name, text in made.items()}
    made_here |= {RULE_FILE: prometheus_rule(), DASHBOARDS_FILE: dashboards()}
    for path, text in made_here.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
