"""A logged request decided under another router is what a gateway with that router would decide."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config import parse_config
from gateway.decision.endpoints import CHAT
from gateway.learning.outcomes import Outcome
from gateway.learning.replayed import as_logged, chooser_of, routers_at, situation_under
from gateway.ledger.accounting import LedgerRow
from gateway.ledger.decision_records import DecisionRecord, decision_record
from gateway.parts import Parts, build_parts
from gateway.pipeline import Incoming, Plan
from gateway.settings import Config
from gateway.tenancy.principals import ANONYMOUS
from gateway.upstream.usage import TokenUsage
from router_models.artifact import DEFAULT

EXPERTS = [f"smollm2-135m{name}" for name in ("", "-code", "-math", "-clinical", "-patents")]
PROMPTS = (
    "def fibonacci(n):",
    "What is 17 * 24?",
    "Ein Mann geht in den Wald",
    "The claim of claim 1,",
)


def config_with(artifact: str, **router: object) -> Config:
    price = {"input": 1.0, "output": 3.0}
    backend = {"backends": [{"url": "http://127.0.0.1:1/v1"}], "price_usd_per_mtok": price}
    models = {name: {**backend, "quality_prior": 0.3 + i / 10} for i, name in enumerate(EXPERTS)}
    models["smollm2-135m-math"]["price_usd_per_mtok"] = {"input": 5.0, "output": 9.0}
    models["newcomer"] = {**backend, "quality_prior": 0.05}
    live = {"exploration": {"share": 0.5}}
    document = {"router": {"artifact": artifact, **router}, "models": models}
    return parse_config({**document, "policies": {"live": live}}, "the test")


def plan(parts: Parts, ask: str, **fields: Any) -> Plan:
    body = {"model": "auto", "messages": [{"role": "user", "content": ask}], **fields}
    incoming = Incoming(CHAT, "r", {}, json.dumps(body).encode(), parts.clock.monotonic_s())
    return parts.pipeline.plan(incoming, ANONYMOUS)


def outcome_of(planned: Plan, score: float | None = None) -> Outcome:
    decision = planned.decision
    told = SimpleNamespace(
        **dict.fromkeys(LedgerRow.__struct_fields__),
    )
    told.__dict__.update(
        at_s=1.0, request_id="r", decision_id="d", profile="best", model=decision.plan.chosen,
        backend="b", outcome="ok", usage=TokenUsage(), duration_ms=1.0, attempts=1, spent=(),
    )  # fmt: skip
    features = planned.features
    record = decision_record(decision, told, features.ask, features.max_output_tokens)  # type: ignore[arg-type]
    assert isinstance(record, DecisionRecord)
    return Outcome(record, features.ask, score)


@pytest.mark.parametrize("ask", PROMPTS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 3},
        {"routing": {"weights": {"cost": 0.3, "verbosity": 0.1}}},
        {"routing": {"router": "retriever"}},
    ],
    ids=["plain", "short", "weighed", "retriever"],
)
@pytest.mark.parametrize("router", [{}, {"fallback": "smollm2-135m-patents"}], ids=["", "fallback"])
def test_the_situation_is_the_one_of_a_gateway_with_that_router(
    ask: str, fields: dict[str, Any], router: dict[str, str]
) -> None:
    before, after = build_parts(config_with("none")), build_parts(config_with("default", **router))
    logged = outcome_of(plan(before, ask, **fields))
    expected = plan(after, ask, **fields).decision.selected.situation
    found = situation_under(logged, routers_at(after.config, DEFAULT), after.config)
    assert found.flags == expected.flags
    assert (found.stay_with, found.is_fallback) == (expected.stay_with, expected.is_fallback)
    for own, theirs in zip(found.candidates, expected.candidates, strict=True):
        assert own.cost_usd == pytest.approx(theirs.cost_usd)
        assert (own.model, own.quality, own.quality_low, own.quality_high, own.output_tokens) == (
            theirs.model, theirs.quality, theirs.quality_low, theirs.quality_high,
            theirs.output_tokens,
        )  # fmt: skip


def test_exploration_is_no_part_of_what_a_router_knows() -> None:
    parts = build_parts(config_with("default"))
    logged = [outcome_of(plan(parts, "What is 17 * 24?")) for _ in range(30)]
    assert len({o.record.chosen for o in logged}) > 1
    chosen = {as_logged(o).model for o in logged if as_logged(o)}  # type: ignore[union-attr]
    assert chosen == {"smollm2-135m-math"}
    choose = chooser_of(parts.config, routers_at(parts.config, DEFAULT))
    assert {choose(o).model for o in logged if choose(o)} == chosen  # type: ignore[union-attr]


def test_weights_are_charged_and_an_impossible_limit_chooses_nobody() -> None:
    parts = build_parts(config_with("default"))
    choose = chooser_of(parts.config, routers_at(parts.config, DEFAULT))
    free = choose(outcome_of(plan(parts, "What is 17 * 24?")))
    dear = choose(outcome_of(plan(parts, "What is 17 * 24?", routing={"weights": {"cost": 0.01}})))
    assert free is not None
    assert dear is not None
    assert free.charged == pytest.approx(0.0)
    assert dear.model == "smollm2-135m-math"
    assert dear.charged == pytest.approx(0.01), "it is the dearest of all"
    limited = outcome_of(
        plan(build_parts(config_with("none")), "Hi", routing={"min_quality": 0.65})
    )
    assert as_logged(limited) is not None
    assert choose(limited) is None, "this router predicts less of everybody"


def test_without_a_router_the_log_itself_speaks(tmp_path: Path) -> None:
    config = config_with("none")
    choose = chooser_of(config, routers_at(config, Path("none")))
    assert choose is as_logged
