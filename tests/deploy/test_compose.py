"""docker-compose.yml without an engine: its schema, and that its parts name each other rightly.

What is beyond: that the images start as their documentation says.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
import redis
import yaml

from gateway.config import load_config, load_without_models
from gateway.settings import Config
from tests.demo_process import free_port
from tests.deploy.test_chart_runs import answers
from tests.deploy.test_reload import wait_until

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FOLDER = ROOT / "deploy/compose"


def test_it_follows_its_schema_and_names_files_that_are_there() -> None:
    # A copy from github.com/compose-spec/compose-spec, Apache-2.0.
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text())
    assert not [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(COMPOSE)]
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "open to this machine alone"
        assert set(service.get("depends_on", ())) <= set(SERVICES)
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= used
    on_gpu = {name for name, s in SERVICES.items() if s.get("profiles") == ["gpu"]}
    assert on_gpu == {"vllm", "gateway-gpu"}
    assert not [s for s in SERVICES.values() if s.get("profiles") not in (None, ["gpu"])]


def test_images_are_pinned_and_containers_have_no_privileges() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*$", service["image"]), service["image"]
        if name != "vllm":  # it compiles kernels, and runs as its image does
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]


def config_of(service: str) -> Config:
    """What the gateway of that service reads."""
    mode, option, path = SERVICES[service]["command"]
    assert option == "--config"
    (volume,) = SERVICES[service]["volumes"]
    source, target, access = volume.split(":")
    assert access == "ro"
    file = ROOT / source / Path(path).relative_to(target)
    return load_without_models(file) if mode == "demo" else load_config(file)


def test_gateways_reach_what_is_beside_them_and_end_in_time() -> None:
    for name in ("gateway", "gateway-gpu"):
        config = config_of(name)
        assert config.server.host == "0.0.0.0"  # noqa: S104
        store = urlsplit(config.state.url)
        assert store.hostname in SERVICES
        assert store.hostname in SERVICES[name]["depends_on"]
        assert config.tracing is not None
        collector = urlsplit(str(config.tracing.endpoint))
        tempo = yaml.safe_load((FOLDER / "tempo.yaml").read_text())["distributor"]["receivers"]
        listens = tempo["otlp"]["protocols"]["http"]["endpoint"]
        assert (collector.hostname, f"0.0.0.0:{collector.port}") == ("tempo", listens)
        assert "tempo" in SERVICES[name]["depends_on"]
        grace_s = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s > config.server.notice_s + config.server.drain_s + 5
        published = [port.split(":")[-1] for port in SERVICES[name]["ports"]]
        assert published == [str(config.server.port)]


def test_the_gpu_gateway_asks_for_the_model_that_vllm_serves() -> None:
    served = [a for a in SERVICES["vllm"]["command"] if "served-model-name" in a]
    models = config_of("gateway-gpu").models
    assert served == [f"--served-model-name={model}" for model in models]
    backends = [b for model in models.values() for b in model.backends]
    assert {str(b.url) for b in backends} == {"http://vllm:8000/v1"}


def test_grafana_finds_dashboards_prometheus_and_tempo() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    sources = yaml.safe_load((provisioning / "datasources/thalamus.yml").read_text())["datasources"]
    urls = {source["uid"]: source["url"] for source in sources}
    tempo = yaml.safe_load((FOLDER / "tempo.yaml").read_text())
    assert urls == {
        "prometheus": "http://prometheus:9090",
        "tempo": f"http://tempo:{tempo['server']['http_listen_port']}",
    }
    uids = [s["jsonData"].get("serviceMap", {}).get("datasourceUid") for s in sources]
    assert set(uids) - {None} <= set(urls)
    providers = yaml.safe_load((provisioning / "dashboards/thalamus.yml").read_text())["providers"]
    (path,) = (p["options"]["path"] for p in providers)
    mounts = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == path
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(f"{path}/")
    assert (ROOT / "deploy/grafana/dashboards" / Path(home).name).exists()


def test_tempo_and_redis_write_where_their_volumes_are() -> None:
    storage = yaml.safe_load((FOLDER / "tempo.yaml").read_text())["storage"]["trace"]
    mounted = {name: [v.split(":")[1] for v in s["volumes"]] for name, s in SERVICES.items()}
    for place in (storage["wal"]["path"], storage["local"]["path"]):
        assert any(place.startswith(f"{mount}/") for mount in mounted["tempo"])
    assert mounted["redis"] == ["/data"], "the image's own folder"


@pytest.mark.redis
def test_redis_starts_as_compose_starts_it_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    command = [*SERVICES["redis"]["command"], "--dir", str(tmp_path), "--port", str(free_port())]
    client = redis.Redis(port=int(command[-1]))
    for has_begun in (False, True):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: answers(client))
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.get("spent") == (b"7" if has_begun else None)
            client.set("spent", 7)
        finally:
            process.terminate()
            process.wait(10)
