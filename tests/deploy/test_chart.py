"""The Helm chart: what it makes is what Kubernetes takes, and its parts fit together.

``pytest -m charts``; needs promtool. No cluster has seen it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.grafana.generate import dashboards
from gateway.config import load_config
from gateway.settings import Config
from tests.deploy.chart import (
    CHART,
    MODELS,
    Manifest,
    complaints,
    container,
    gateway_config,
    helm,
    of_kind,
    one,
    pod,
    render,
)
from tests.deploy.chart_tools import VERSIONS
from tests.deploy.chart_values import EVERYTHING, MONITORED, SETS
from tests.docs.generate import DOCS

pytestmark = pytest.mark.charts

ROOT = CHART.parents[2]
EXAMPLES = sorted((CHART.parent / "examples").glob("*.yaml"))


@pytest.fixture(params=[*SETS, *EXAMPLES], ids=lambda p: p if isinstance(p, str) else p.stem)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    values = SETS[request.param] if isinstance(request.param, str) else request.param
    return render(values)


def within(node: object, key: str) -> Iterator[Any]:
    """Every value under the key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from within(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from within(value, key)


def test_helm_finds_nothing_to_complain_about() -> None:
    told = helm("lint", CHART, "--strict")
    assert "0 chart(s) failed" in told
    assert "WARNING" not in told


def test_an_archive_of_the_chart_renders_the_same(tmp_path: Path) -> None:
    """The links to rules and dashboards are files in it."""
    helm("package", CHART, "--destination", tmp_path)
    (archive,) = tmp_path.glob("thalamus-*.tgz")
    values = yaml.safe_dump({"metrics": MONITORED})
    words = ("--namespace", "ai", "--values", "-")
    texts = [helm("template", "llm", c, *words, stdin=values) for c in (CHART, archive)]
    assert texts[0] == texts[1]
    assert "ThalamusConfigRefused" in texts[1]


def test_kubernetes_takes_every_manifest(
    manifests: list[Manifest], request: pytest.FixtureRequest
) -> None:
    for version in VERSIONS:
        if "router image" in request.node.name and version == VERSIONS[0]:
            continue  # volumes of images came later, as values.yaml says
        assert not [c for manifest in manifests for c in complaints(manifest, version)], version
    names = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        ({}, "It answers with its embedded models", "Everybody who reaches it"),
        ({"config": {"models": MODELS}}, "Everybody who reaches it may use it", "embedded models"),
        (EVERYTHING, "lets streams end for 600 s", "Everybody who reaches it"),
        ({"config": {"models": MODELS}, "reload": "restart"}, "8080:80", "taken up within"),
    ],
)
def test_what_helm_says_after_an_install_is_true_of_it(
    values: dict[str, Any], said: str, unsaid: str
) -> None:
    words = ("--namespace", "ai", "--dry-run=client", "--values", "-")
    told = helm("install", "llm", CHART, *words, stdin=yaml.safe_dump(values))
    notes = told.partition("\nNOTES:\n")[2]
    assert "port-forward svc/llm-thalamus 8080:80" in notes
    assert said in notes
    assert unsaid not in notes


def test_the_least_version_is_the_one_that_the_chart_asks_for() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"


def test_the_schemas_do_refuse() -> None:
    image = render(SETS["router image"])
    assert [c for m in image for c in complaints(m, VERSIONS[0])], "no volume of an image there"
    deployment = one(render(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    assert complaints(deployment)
    monitor = one(render({"metrics": MONITORED}), "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = "1s"
    assert complaints(monitor)


def test_images_are_pinned_and_containers_have_no_privileges(manifests: list[Manifest]) -> None:
    for image in within(manifests, "image"):
        if isinstance(image, str):
            assert re.search(r":[\w.-]+$|@sha256:", image), image
            assert not image.endswith(":latest")
    ours = [*of_kind(manifests, "Deployment"), *of_kind(manifests, "StatefulSet")]
    specs = [m["spec"]["template"]["spec"] for m in ours]
    specs += [m["spec"] for m in of_kind(manifests, "Pod")]
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for each in (*spec["containers"], *spec.get("initContainers", ())):
            if each["image"].startswith("busybox"):
                continue  # a stranger of the test's own
            security = each["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert each["resources"]["limits"]["memory"]


def test_a_cluster_that_chooses_users_itself_may() -> None:
    chosen = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    manifests = render({"podSecurityContext": chosen, "redis": {"enabled": True}})
    redis = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    for spec in (pod(manifests), redis, one(manifests, "Pod")["spec"]):
        assert not set(chosen) & set(spec["securityContext"])
        assert spec["securityContext"]["runAsNonRoot"]


def test_selectors_find_the_pods_and_ports_have_names_there(manifests: list[Manifest]) -> None:
    templates = {
        m["metadata"]["name"]: m["spec"]["template"]
        for kind in ("Deployment", "StatefulSet")
        for m in of_kind(manifests, kind)
    }

    def found(selector: dict[str, str]) -> list[str]:
        return [
            name
            for name, template in templates.items()
            if selector.items() <= template["metadata"]["labels"].items()
        ]

    for name, manifest in ((m["metadata"]["name"], m) for m in manifests):
        match manifest["kind"]:
            case "Deployment" | "StatefulSet":
                assert found(manifest["spec"]["selector"]["matchLabels"]) == [name]
            case "PodDisruptionBudget":
                assert found(manifest["spec"]["selector"]["matchLabels"]) == ["llm-thalamus"]
            case "NetworkPolicy":
                (chosen,) = found(manifest["spec"]["podSelector"]["matchLabels"])
                named = {p["name"] for p in within(templates[chosen], "ports") for p in p}
                asked = {p["port"] for r in manifest["spec"]["ingress"] for p in r["ports"]}
                assert asked <= named
                assert asked == named, "every port is spoken of"
            case "Service" if manifest["spec"].get("type") != "ExternalName":
                (chosen,) = found(manifest["spec"]["selector"])
                named = {p["name"] for p in within(templates[chosen], "ports") for p in p}
                assert {p["targetPort"] for p in manifest["spec"]["ports"]} <= named
            case "ServiceMonitor":
                wanted = manifest["spec"]["selector"]["matchLabels"]
                services = [
                    s
                    for s in of_kind(manifests, "Service")
                    if wanted.items() <= s["metadata"]["labels"].items()
                ]
                assert [s["metadata"]["name"] for s in services] == ["llm-thalamus"]
                ports = {p["name"] for p in services[0]["spec"]["ports"]}
                assert {e["port"] for e in manifest["spec"]["endpoints"]} <= ports
    config = [m for m in manifests if "thalamus.yaml" in m.get("data", {})]
    listening = {p["name"]: p["containerPort"] for p in container(manifests)["ports"]}
    for text in (m["data"]["thalamus.yaml"] for m in config):
        told = yaml.safe_load(text)
        assert told["server"]["port"] == listening["http"]
        assert told.get("admin", {}).get("port") == listening.get("admin")


def test_every_volume_is_mounted_and_every_mount_has_its_volume(manifests: list[Manifest]) -> None:
    spec = pod(manifests)
    mounted = {m["name"] for mounts in within(spec, "volumeMounts") for m in mounts}
    assert mounted == {v["name"] for v in spec["volumes"]}
    writable = [m["mountPath"] for m in container(manifests)["volumeMounts"] if "readOnly" not in m]
    assert writable == ["/tmp", "/var/lib/thalamus"]  # noqa: S108


def test_check_config_accepts_what_the_gateway_reads(
    manifests: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in container(manifests).get("env", ()):
        monkeypatch.setenv(variable["name"], variable.get("value", "a-secret"))
    path = tmp_path / "thalamus.yaml"
    path.write_text(gateway_config(manifests))
    embedded = MODELS if container(manifests)["args"][0] == "demo" else None
    config = load_config(path, embedded)
    assert config.server.host == "0.0.0.0"  # noqa: S104
    assert config.server.workers == 1
    grace_s = pod(manifests)["terminationGracePeriodSeconds"]
    assert config.server.notice_s >= 5
    assert config.server.drain_s >= config.timeouts.total_s, "the longest stream ends"
    assert grace_s >= config.server.notice_s + config.server.drain_s + 10
    probe = container(manifests)["readinessProbe"]
    seen_s = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert seen_s < config.server.notice_s, "it is seen not to be ready before it stops listening"


def test_the_grace_period_follows_the_longest_answer() -> None:
    longer = {"models": MODELS, "timeouts": {"total_s": 1800}}
    assert pod(render({"config": longer}))["terminationGracePeriodSeconds"] == 1825
    shorter = {"models": MODELS, "server": {"drain_s": 20.5}}
    assert pod(render({"config": shorter}))["terminationGracePeriodSeconds"] == 46


def test_a_live_change_leaves_the_pods_and_what_needs_a_restart_rolls_them() -> None:
    def checksum(**values: Any) -> str:
        template = one(render(values), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    more = {**MODELS, "other": MODELS["large"]}
    template = one(render(), "Deployment")["spec"]["template"]
    assert "helm.sh/chart" not in template["metadata"]["labels"]
    before = checksum(config={"models": MODELS})
    assert checksum(config={"models": more}) == before
    assert checksum(config={"models": MODELS, "server": {"max_inflight": 9}}) != before
    assert checksum(config={"models": MODELS}, admin={"secret": "x"}) != before
    restarting = checksum(config={"models": MODELS}, reload="restart")
    assert checksum(config={"models": more}, reload="restart") != restarting
    live = yaml.safe_load(gateway_config(render({"config": {"models": MODELS}})))
    assert live["server"]["watch_config"] is True
    (mount,) = (
        m
        for m in container(render({"config": {"models": MODELS}}))["volumeMounts"]
        if m["name"] == "config"
    )
    assert "subPath" not in mount, "the kubelet would never renew it"


def test_the_schema_takes_every_default_and_knows_every_setting() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) == {*defaults, "global"}
    settings = schema["$defs"]["Config"]["properties"]
    assert set(settings) == set(Config.model_fields) - {"admin"}


def test_alerts_and_dashboards_are_the_repositorys_own() -> None:
    manifests = render({"metrics": MONITORED})
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    assert one(manifests, "PrometheusRule")["spec"] == rules
    boards = [
        m for m in of_kind(manifests, "ConfigMap") if "grafana_dashboard" in m["metadata"]["labels"]
    ]
    assert {k: v for m in boards for k, v in m["data"].items()} == dashboards()
    assert {m["metadata"]["labels"]["grafana_dashboard"] for m in boards} == {"1"}
    (endpoint,) = one(manifests, "ServiceMonitor")["spec"]["endpoints"]
    job = [r["replacement"] for r in endpoint["relabelings"] if r["targetLabel"] == "job"]
    assert job == ["thalamus"]
    assert 'job="thalamus"' in str(rules)


def test_what_scales_asks_for_metrics_that_exist() -> None:
    exist = set(re.findall(r"^\| `(thalamus_\w+)`", (DOCS / "metrics.md").read_text(), re.M))
    (trigger,) = one(render(EVERYTHING), "ScaledObject")["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert set(re.findall(r"thalamus_\w+", query)) <= exist
    assert 'namespace="ai",service="llm-thalamus"' in query
    metrics = one(render(SETS["hpa"]), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert {m["pods"]["metric"]["name"] for m in metrics if m["type"] == "Pods"} <= exist
    assert "replicas" not in one(render(SETS["hpa"]), "Deployment")["spec"]


def test_promtool_reads_the_query_that_keda_asks(tmp_path: Path) -> None:
    (trigger,) = one(render(EVERYTHING), "ScaledObject")["spec"]["triggers"]
    rule = {"record": "x", "expr": trigger["metadata"]["query"]}
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "keda", "rules": [rule]}]}))
    subprocess.run(["promtool", "check", "rules", rules], check=True, capture_output=True)


def test_ways_in_lead_to_the_api_alone_and_hold_no_stream_back() -> None:
    manifests = render(EVERYTHING)
    ingress = one(manifests, "Ingress")
    paths = [p["path"] for r in ingress["spec"]["rules"] for p in r["http"]["paths"]]
    assert paths == ["/v1"]
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 600
    (rule,) = one(manifests, "HTTPRoute")["spec"]["rules"]
    assert [m["path"]["value"] for m in rule["matches"]] == ["/v1"]
    assert rule["timeouts"]["request"] == "630s"
    admin = one(manifests, "Service", "llm-thalamus-admin")
    assert admin["spec"]["type"] == "ClusterIP"
    routed = {b["name"] for b in within(manifests, "backendRefs") for b in b}
    assert routed == {"llm-thalamus"}


def test_secrets_are_references_and_the_egress_leaves_out_where_clouds_keep_credentials() -> None:
    manifests = render(EVERYTHING)
    assert not of_kind(manifests, "Secret")
    env = {v["name"]: v for v in container(manifests)["env"]}
    for name, secret in (("THALAMUS_ADMIN_KEY", "thalamus-admin"), ("REDIS_PASSWORD", "redis")):
        assert env[name]["valueFrom"]["secretKeyRef"]["name"] == secret
    policy = one(manifests, "NetworkPolicy", "llm-thalamus")
    assert "169.254.0.0/16" in str(policy["spec"]["egress"])
    redis = one(manifests, "NetworkPolicy", "llm-thalamus-redis")
    assert redis["spec"]["egress"] == []


def test_pools_are_reached_where_the_models_point() -> None:
    manifests = render(CHART.parent / "examples/inference-extension.yaml")
    models = yaml.safe_load(gateway_config(manifests))["models"]
    hosts = {urlsplit(b["url"]).hostname: m for m, s in models.items() for b in s["backends"]}
    aliases = {s["metadata"]["name"] for s in of_kind(manifests, "Service")}
    pools = {p["metadata"]["name"]: p["spec"] for p in of_kind(manifests, "InferencePool")}
    routes = of_kind(manifests, "HTTPRoute")
    assert len(routes) == len(pools) == len(models) == 2
    for route in routes:
        (host,) = route["spec"]["hostnames"]
        (pool,) = (b["name"] for r in route["spec"]["rules"] for b in r["backendRefs"])
        assert hosts[host] == pool
        assert host.split(".")[0] in aliases
        assert host.split(".")[1] == "ai", "the release's namespace"
        assert pools[pool]["endpointPickerRef"]["name"] == f"{pool}-epp"


def test_the_example_of_the_page_renders() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "kubernetes.md").read_text(), re.M | re.S)
    (values,) = (block for block in blocks if block.startswith("config:"))
    manifests = render(yaml.safe_load(values))
    assert not [complaint for manifest in manifests for complaint in complaints(manifest)]
    assert of_kind(manifests, "StatefulSet")
