"""Values for the chart: each way to run it, and one with everything switched on."""

from __future__ import annotations

from typing import Any

from tests.deploy.chart import MODELS

KEYS = {"auth": {"mode": "keys"}, "models": MODELS}
MONITORED = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Thalamus"}},
}
EVERYTHING: dict[str, Any] = {
    "image": {"repository": "ours/thalamus", "digest": f"sha256:{'a' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "config": KEYS,
    "secretEnv": {"VLLM_KEY": {"secret": "vllm", "key": "token"}},
    "admin": {"secret": "thalamus-admin"},
    "router": {"persistentVolumeClaim": "routers", "subPath": "v7", "sha256": "b" * 64},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "hosts": ["llm.example.com"],
        "tls": [{"secretName": "llm-tls", "hosts": ["llm.example.com"]}],
    },
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["x.org"]},
    "keda": {"enabled": True, "serverAddress": "http://prometheus:9090", "authenticationRef": "p"},
    "networkPolicy": {
        "from": [{"namespaceSelector": {"matchLabels": {"team": "apps"}}}],
        "adminFrom": [{"podSelector": {"matchLabels": {"role": "operator"}}}],
    },
    "metrics": MONITORED,
    "redis": {"enabled": True, "password": {"secret": "redis"}, "storageClassName": "ssd"},
    "data": {"persistentVolumeClaim": "ledger"},
    "test": {"secret": "try-it"},
    "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    "podSecurityContext": {"supplementalGroups": [2000]},
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "priorityClassName": "high",
    "nodeSelector": {"pool": "cpu"},
    "tolerations": [{"key": "cpu", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    "initContainers": [{"name": "wait", "image": "busybox:1.37.0"}],
    "extraContainers": [{"name": "beside", "image": "busybox:1.37.0"}],
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "{{ .Release.Name }}-more"},
            "data": {"a": "b"},
        }
    ],
}
SETS: dict[str, dict[str, Any]] = {
    "default": {},
    "models": {"config": {"models": MODELS}},
    "everything": EVERYTHING,
    "hpa": {"autoscaling": {"enabled": True, "inflight": 400}},
    "hpa by requests alone": {"autoscaling": {"enabled": True, "inflight": 9, "cpuPercent": 0}},
    "router image": {"config": {"models": MODELS}, "router": {"image": {"reference": "r:1"}}},
    "router copied": {"config": {"models": MODELS}, "router": {"copyFrom": {"image": "r:1"}}},
    "external redis": {
        "config": {**KEYS, "state": {"url": "rediss://cache:6380/1", "password": "env:PW"}},
        "secretEnv": {"PW": {"secret": "cache", "key": "pw"}},
    },
    "redis without a password": {"config": KEYS, "redis": {"enabled": True}},
    "restarts": {"config": {"models": MODELS}, "reload": "restart"},
    "bare": {
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
        "service": {"type": "LoadBalancer", "port": 443},
    },
    "other ingress": {"ingress": {"enabled": True, "controller": "none", "hosts": ["x.org"]}},
}
