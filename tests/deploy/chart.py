"""The Helm chart as a cluster would get it, without one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests.deploy.chart_tools import HELM, schemas_of

CHART = Path(__file__).parents[2] / "deploy/helm/thalamus"
CRDS = Path(__file__).parents[1] / "data/crds"
MODELS = {"large": {"backends": [{"url": "http://vllm:8000/v1"}], "quality_prior": 0.8}}

Manifest = dict[str, Any]


class Refused(Exception):
    """What helm said."""


def helm(*words: str | Path, stdin: str = "") -> str:
    assert HELM.exists(), "run python -m tests.deploy.chart_tools"
    done = subprocess.run(
        [HELM, *words], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def render(values: Mapping[str, Any] | Path | None = None, *more: str) -> list[Manifest]:
    """Every manifest of a release ``llm`` in the namespace ``ai``. Raises Refused."""
    given = values.read_text() if isinstance(values, Path) else yaml.safe_dump(dict(values or {}))
    words = ("template", "llm", CHART, "--namespace", "ai", "--values", "-", *more)
    return [m for m in yaml.safe_load_all(helm(*words, stdin=given)) if m]


def of_kind(manifests: list[Manifest], kind: str, name: str = "") -> list[Manifest]:
    return [
        m for m in manifests if m["kind"] == kind and (not name or m["metadata"]["name"] == name)
    ]


def one(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    (found,) = of_kind(manifests, kind, name)
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    spec: Manifest = one(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest]) -> Manifest:
    return next(c for c in pod(manifests)["containers"] if c["name"] == "gateway")


def gateway_config(manifests: list[Manifest]) -> str:
    """The text of the file that the gateway reads."""
    text: str = one(manifests, "ConfigMap", "llm-thalamus")["data"]["thalamus.yaml"]
    return text


@cache
def _schemas(kubernetes: str) -> dict[tuple[str, str], dict[str, Any]]:
    document = json.loads(schemas_of(kubernetes).read_text())
    found = {}
    for name, schema in document["$defs"].items():
        for group in schema.get("x-kubernetes-group-version-kind", ()):
            version = "/".join(filter(None, (group["group"], group["version"])))
            whole = {"$schema": document["$schema"], "$defs": document["$defs"]}
            found[version, group["kind"]] = {**whole, "$ref": f"#/$defs/{name}"}
    for path in CRDS.glob("*.json"):
        schema = json.loads(path.read_text())
        version = schema["properties"]["apiVersion"]["const"]
        found[version, schema["properties"]["kind"]["const"]] = schema
    return found


@cache
def _validator(kubernetes: str, version: str, kind: str) -> jsonschema_rs.Validator | None:
    schema = _schemas(kubernetes).get((version, kind))
    return None if schema is None else jsonschema_rs.validator_for(schema)


def complaints(manifest: Manifest, kubernetes: str = "1.35") -> list[str]:
    """What that version of Kubernetes would refuse about it."""
    validator = _validator(kubernetes, manifest["apiVersion"], manifest["kind"])
    if validator is None:
        return [f"no schema of {manifest['apiVersion']} {manifest['kind']}"]
    return [
        f"{manifest['kind']} {'.'.join(map(str, error.instance_path))}: {error.message[:200]}"
        for error in validator.iter_errors(manifest)
    ]
