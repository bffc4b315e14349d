"""Wrong values do not reach a cluster: the chart says where they are wrong, or what to do.

``pytest -m charts``
"""

from __future__ import annotations

import pytest

from tests.deploy.chart import Refused, render
from tests.deploy.chart_values import KEYS

pytestmark = pytest.mark.charts

BAD = {
    "a key that is none": ({"replica": 3}, "additional properties 'replica' not allowed"),
    "a type": ({"keda": {"enabled": "yes"}}, "at '/keda/enabled': got string, want boolean"),
    "a setting of the gateway": (
        {"config": {"models": {"m": {"backends": [{"url": "http://v/v1"}], "prize": 1}}}},
        "at '/config/models/m': additional properties 'prize' not allowed",
    ),
    "a setting of the chart": (
        {"config": {"server": {"port": 1}}},
        "at '/config/server': additional properties 'port' not allowed",
    ),
    "a secret written down": (
        {"config": {"models": {"m": {"backends": [{"url": "http://v/v1", "api_key": "sk-1"}]}}}},
        "'sk-1' does not match pattern '^(env|file):.+$'",
    ),
    "latest": ({"image": {"tag": "latest"}}, "at '/image/tag': 'not' failed"),
    "a sum": ({"router": {"sha256": "abc"}}, "at '/router/sha256': 'abc' does not match"),
    "no host": ({"ingress": {"enabled": True}}, "at '/ingress/hosts': minItems: got 0, want 1"),
    "no parent": ({"httpRoute": {"enabled": True}}, "at '/httpRoute/parentRefs': minItems"),
    "two scalers": (
        {
            "autoscaling": {"enabled": True},
            "keda": {"enabled": True, "serverAddress": "http://p"},
        },
        "autoscaling and keda would both set the number of pods",
    ),
    "keda without Prometheus": ({"keda": {"enabled": True}}, "keda.serverAddress must be the URL"),
    "nothing to scale by": (
        {"autoscaling": {"enabled": True, "cpuPercent": 0}},
        "autoscaling needs cpuPercent, inflight or both",
    ),
    "limits that do not add up": ({"config": KEYS}, "each of which would count by itself"),
    "two Redis": (
        {"config": {"state": {"url": "redis://x:1"}}, "redis": {"enabled": True}},
        "redis.enabled brings a Redis and config.state.url names another",
    ),
    "two routers": (
        {"router": {"persistentVolumeClaim": "a", "image": {"reference": "b"}}},
        "router: name one of",
    ),
    "a variable nobody sets": (
        {"config": {"state": {"password": "env:NOBODY"}}},
        "config names env:NOBODY, which neither secretEnv nor extraEnv sets",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_value_is_refused_with_its_place_or_its_remedy(name: str) -> None:
    values, message = BAD[name]
    with pytest.raises(Refused) as refused:
        render(values)
    assert message in str(refused.value)
