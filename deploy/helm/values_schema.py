"""The chart's values.schema.json: types of its own values, and the gateway's settings beneath config.

python -m deploy.helm.values_schema     # writes it; also part of python -m tests.docs.generate

Helm refuses a wrong value by it before anything reaches the cluster.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.settings import Config

FILE = Path(__file__).parent / "thalamus" / "values.schema.json"

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
NAME = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}
COUNT = {"type": "integer", "minimum": 1}
NATURAL = {"type": "integer", "minimum": 0}
PORT = {"type": "integer", "minimum": 1024, "maximum": 65535}
STRINGS = {"type": "object", "additionalProperties": TEXT}
OBJECT = {"type": "object"}
OBJECTS = {"type": "array", "items": OBJECT}
PATHS = {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^/"}}
PULL = {"enum": ["Always", "IfNotPresent", "Never"]}
#: A tag that always leads to the same image.
TAG = {"type": "string", "not": {"const": "latest"}}
#: A number of pods, or a share of them.
SOME = {"oneOf": [NATURAL, {"type": "string", "pattern": "^[0-9]{1,3}%$"}]}
#: What the chart settles itself; see templates/_config.tpl.
SETTLED = {"Server": ("host", "port", "workers", "notice_s", "watch_config"), "Config": ("admin",)}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": list(required)} if required else {}),
    }


def _secret(key: str) -> dict[str, Any]:
    return _object(secret=NAME, **{key: TEXT})


def _values() -> dict[str, Any]:
    probe = _object(
        periodSeconds=COUNT,
        failureThreshold=COUNT,
        timeoutSeconds=COUNT,
        initialDelaySeconds=NATURAL,
    )
    lists = (
        "imagePullSecrets", "topologySpreadConstraints", "tolerations", "extraEnv", "extraEnvFrom",
        "extraVolumes", "extraVolumeMounts", "initContainers", "extraContainers", "extraObjects",
    )  # fmt: skip
    return {
        **{name: OBJECTS for name in lists},
        **{name: OBJECT for name in ("affinity", "resources", "lifecycle", "podSecurityContext")},
        **{name: STRINGS for name in ("podAnnotations", "podLabels", "nodeSelector")},
        **{name: NAME for name in ("nameOverride", "fullnameOverride", "priorityClassName")},
        **{name: probe for name in ("startupProbe", "readinessProbe", "livenessProbe")},
        **_process(),
        "service": _object(
            type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
            port={**PORT, "minimum": 1},
            annotations=STRINGS,
        ),
        **_ways_in(),
        **_scaling(),
        "networkPolicy": _object(
            enabled=FLAG, **{"from": OBJECTS}, adminFrom=OBJECTS, egress=OBJECTS
        ),
        "serviceAccount": _object(create=FLAG, name=NAME, annotations=STRINGS),
        "data": _object(persistentVolumeClaim=NAME, sizeLimit=TEXT),
        "metrics": _object(
            serviceMonitor=_object(enabled=FLAG, interval=TEXT, labels=STRINGS),
            prometheusRule=_object(enabled=FLAG, labels=STRINGS),
            dashboards=_object(enabled=FLAG, labels=STRINGS, annotations=STRINGS),
        ),
        "redis": _object(
            enabled=FLAG,
            image=_object(repository=TEXT, tag=TAG, pullPolicy=PULL),
            password=_secret("key"),
            storage=TEXT,
            storageClassName=NAME,
            resources=OBJECT,
        ),
        "test": _secret("key"),
        "global": OBJECT,
    }


def _process() -> dict[str, Any]:
    return {
        "image": _object(
            repository=TEXT,
            tag=TAG,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy=PULL,
        ),
        "replicas": NATURAL,
        "rollingUpdate": _object(maxSurge=SOME, maxUnavailable=SOME),
        "reload": {"enum": ["live", "restart"]},
        "noticeSeconds": NATURAL,
        "secretEnv": {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": _object(("secret", "key"), secret=NAME, key=TEXT),
        },
        "router": _object(
            persistentVolumeClaim=NAME,
            image=_object(reference=TEXT, pullPolicy=PULL),
            copyFrom=_object(image=TEXT, path={"type": "string", "pattern": "^/"}),
            subPath=TEXT,
            sha256={"type": "string", "pattern": "^([0-9a-f]{64})?$"},
        ),
        "admin": _object(secret=NAME, key=TEXT, port={**PORT, "not": {"const": 8080}}),
    }


def _ways_in() -> dict[str, Any]:
    return {
        "ingress": _object(
            enabled=FLAG,
            className=NAME,
            controller={"enum": ["nginx", "none"]},
            annotations=STRINGS,
            hosts={"type": "array", "items": TEXT},
            tls=OBJECTS,
            paths=PATHS,
        )
        | _when_enabled("hosts"),
        "httpRoute": _object(
            enabled=FLAG,
            parentRefs=OBJECTS,
            hostnames={"type": "array", "items": TEXT},
            paths=PATHS,
            annotations=STRINGS,
        )
        | _when_enabled("parentRefs"),
    }


def _when_enabled(*needed: str) -> dict[str, Any]:
    return {
        "if": {"properties": {"enabled": {"const": True}}, "required": ["enabled"]},
        "then": {"properties": {name: {"minItems": 1} for name in needed}, "required": [*needed]},
    }


def _scaling() -> dict[str, Any]:
    return {
        "autoscaling": _object(
            enabled=FLAG,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            cpuPercent={"type": "integer", "minimum": 0, "maximum": 100},
            inflight=NATURAL,
        ),
        "keda": _object(
            enabled=FLAG,
            serverAddress={"type": "string", "pattern": "^(https?://.+)?$"},
            inflight=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            authenticationRef=NAME,
        ),
        "podDisruptionBudget": _object(
            enabled=FLAG,
            maxUnavailable={"oneOf": [COUNT, {"type": "string", "pattern": "^[1-9][0-9]?%$"}]},
        ),
    }


def _settings() -> dict[str, Any]:
    """The gateway's own schema, less what the chart settles; secrets by reference alone."""
    schema = Config.model_json_schema()
    defs: dict[str, Any] = schema.pop("$defs")
    defs["Config"] = schema
    for name, settled in SETTLED.items():
        for setting in settled:
            del defs[name]["properties"][setting]
    del defs["Config"]["required"]  # without models the embedded ones answer
    del defs["Config"]["properties"]["models"]["minProperties"]
    written: dict[str, Any] = _by_reference(defs)
    return written


def _by_reference(node: Any) -> Any:
    if isinstance(node, dict):
        if node.get("format") == "password":
            return {"type": "string", "pattern": "^(env|file):.+$"}
        return {key: _by_reference(value) for key, value in node.items()}
    return [_by_reference(v) for v in node] if isinstance(node, list) else node


def values_schema() -> str:
    """The file's text."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart thalamus",
        "$comment": "Written by python -m tests.docs.generate",
        **_object(**_values(), config={"$ref": "#/$defs/Config"}),
        "$defs": _settings(),
    }
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(values_schema())
