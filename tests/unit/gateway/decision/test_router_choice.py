"""Which of the artifact's routers decides, and what it shows of its reasons."""

import asyncio
import json
import threading

import pytest

from gateway.api.explain import decision_document
from gateway.config import parse_config
from gateway.decision.endpoints import CHAT
from gateway.decision.scoring import LoadedRouters
from gateway.parts import Parts, build_parts
from gateway.pipeline import Incoming, Plan
from gateway.tenancy.principals import ANONYMOUS
from router_models.types import Estimates

EXPERTS = [f"smollm2-135m{name}" for name in ("", "-code", "-math", "-clinical", "-patents")]
ASK = "Complete this Python function.\n\ndef mean(values):"


@pytest.fixture(scope="module")
def parts() -> Parts:
    backend = {"backends": [{"url": "http://127.0.0.1:1/v1"}]}
    return build_parts(parse_config({"models": dict.fromkeys(EXPERTS, backend)}, "test"))


def plan(parts: Parts, **routing: object) -> Plan:
    body = {"model": "auto", "messages": [{"role": "user", "content": ASK}], "routing": routing}
    incoming = Incoming(CHAT, "r", {}, json.dumps(body).encode(), parts.clock.monotonic_s())
    return parts.pipeline.plan(incoming, ANONYMOUS)


def test_each_router_decides_by_its_own_predictions(parts: Parts) -> None:
    found = {
        kind: plan(parts, router=kind).decision for kind in ("perceptive", "retriever", "ensemble")
    }
    assert {d.plan.chosen for d in found.values()} == {"smollm2-135m-code"}
    assert len({d.chosen.quality for d in found.values()}) == 3
    assert not any("router" in w for d in found.values() for w in d.warnings)


async def test_a_slow_router_reads_while_the_event_loop_goes_on(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, may_answer = parts.pipeline.scorer, threading.Event()
    fast = scorer.routers

    class Waiting:
        models, version = fast.by_kind["perceptive"].models, "waiting"

        def score(self, prompt: str) -> Estimates:
            if prompt:  # the empty one is asked where routers are taken into use
                assert may_answer.wait(10)
            return fast.by_kind["perceptive"].score(prompt)

    monkeypatch.setattr(
        scorer, "routers", LoadedRouters({"perceptive": Waiting()}, None, is_slow=True)
    )
    scorer._kept.clear()
    body = {"model": "auto", "messages": [{"role": "user", "content": ASK}]}
    incoming = Incoming(CHAT, "r", {}, json.dumps(body).encode(), parts.clock.monotonic_s())
    decided = asyncio.create_task(parts.pipeline.planned(incoming, ANONYMOUS))
    await asyncio.sleep(0.05)
    assert not decided.done()  # and yet we are here
    may_answer.set()
    assert (await decided).decision.plan.chosen == "smollm2-135m-code"


def test_a_full_explanation_shows_the_nearest_pilots(parts: Parts) -> None:
    full = plan(parts, router="retriever", explain="full")
    document = json.loads(decision_document(full, parts.catalog, parts.pipeline.scorer))
    near = document["nearest_pilots"]
    assert near[0]["task"] == "code"
    assert near[0]["outcome"] == "loss"
    assert {m["model"] for m in near[0]["models"]} == set(EXPERTS)
    assert all(m["error"] > 0 and m["prompts"] > 0 for m in near[0]["models"])
    similar = [n["similarity"] for n in near]
    assert similar == sorted(similar, reverse=True)
    brief = plan(parts, router="retriever")
    assert "nearest_pilots" not in json.loads(
        decision_document(brief, parts.catalog, parts.pipeline.scorer)
    )
