"""A prompt unlike any that the router was trained on goes to a stated default, and says so."""

import json

import pytest

from gateway.api.explain import decision_document
from gateway.config import parse_config
from gateway.decision.endpoints import CHAT
from gateway.errors import ConfigError
from gateway.parts import Parts, build_parts
from gateway.pipeline import Incoming, Plan
from gateway.routing_headers import routing_headers
from gateway.tenancy.principals import ANONYMOUS
from gateway.upstream.attempts import Trail

EXPERTS = [f"smollm2-135m{name}" for name in ("", "-code", "-math", "-clinical", "-patents")]
STRANGE = "Ein Mann geht in den Wald"


def parts_with(**router: object) -> Parts:
    backend = {"backends": [{"url": "http://127.0.0.1:1/v1"}]}
    models = dict.fromkeys(EXPERTS, backend)
    return build_parts(parse_config({"router": router, "models": models}, "the test"))


def plan(parts: Parts, ask: str, model: str = "auto", **routing: object) -> Plan:
    body = {"model": model, "messages": [{"role": "user", "content": ask}], "routing": routing}
    incoming = Incoming(CHAT, "r", {}, json.dumps(body).encode(), parts.clock.monotonic_s())
    return parts.pipeline.plan(incoming, ANONYMOUS, always_scored=True)


def reason(planned: Plan) -> str:
    return routing_headers("r", planned.decision, Trail(), 0.0)["x-routing-reason"]


def test_by_default_it_is_the_model_that_is_best_on_average() -> None:
    parts = parts_with()
    planned = plan(parts, STRANGE)
    assert planned.decision.plan.chosen == "smollm2-135m-code"
    assert reason(planned).startswith("unlike the prompts trained on (nearness 0.")
    document = json.loads(decision_document(planned, parts.catalog, parts.pipeline.scorer))
    assert document["explanation"] == reason(planned)
    assert 0 <= document["features"]["nearness"] < 0.1


def test_the_configuration_may_name_another() -> None:
    parts = parts_with(fallback="smollm2-135m")
    planned = plan(parts, STRANGE)
    assert planned.decision.plan.chosen == "smollm2-135m"
    assert reason(planned).endswith("by router.fallback")
    familiar = plan(parts, "A farmer has 12 cows and buys 7 more. How many cows does he have?")
    assert familiar.decision.plan.chosen == "smollm2-135m-math"
    assert reason(familiar).startswith("highest predicted quality")


def test_a_fallback_that_the_request_rules_out_is_not_asked() -> None:
    planned = plan(parts_with(fallback="smollm2-135m"), STRANGE, models={"deny": ["smollm2-135m"]})
    assert planned.decision.plan.chosen == "smollm2-135m-code"


def test_a_named_model_stays() -> None:
    planned = plan(parts_with(fallback="smollm2-135m"), STRANGE, model="smollm2-135m-math")
    assert planned.decision.plan.chosen == "smollm2-135m-math"
    assert "unlike" not in reason(planned)


def test_a_fallback_must_be_a_configured_model() -> None:
    with pytest.raises(ConfigError, match=r"router\.fallback: no model 'gone' is configured"):
        parts_with(fallback="gone")
