"""``model: "auto"`` sends a prompt to the model that truly is best for it, on unseen prompts."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import httpx2
import pyarrow.parquet as pq
import pytest

import router_models

OUTCOMES = Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"
PROMPTS_PER_DOMAIN = 10


def prompts_where_the_expert_is_best() -> dict[str, list[str]]:
    """Report-only prompts of each domain whose measured loss is lowest under the domain's expert."""
    losses: dict[str, dict[str, float]] = defaultdict(dict)
    about: dict[str, tuple[str, str]] = {}
    for row in pq.read_table(OUTCOMES).to_pylist():
        if row["split"] != "train":
            losses[row["prompt_id"]][row["model"]] = row["loss"]
            about[row["prompt_id"]] = (row["task"], row["prompt"])
    prompts: dict[str, list[str]] = defaultdict(list)
    for prompt_id, (domain, prompt) in sorted(about.items()):
        best = min(losses[prompt_id], key=losses[prompt_id].__getitem__)
        if best == f"smollm2-135m-{domain}":
            prompts[domain].append(prompt)
    return {domain: texts[:PROMPTS_PER_DOMAIN] for domain, texts in prompts.items()}


PROMPTS = prompts_where_the_expert_is_best()


@pytest.mark.parametrize("domain", ["clinical", "code", "math", "patents"])
def test_nine_of_ten_prompts_reach_their_domains_expert(api: httpx2.Client, domain: str) -> None:
    served = [
        api.post(
            "/chat/completions",
            json={
                "model": "auto",
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": 1,
            },
        ).headers["x-routing-model"]
        for prompt in PROMPTS[domain]
    ]
    assert len(served) == PROMPTS_PER_DOMAIN
    assert served.count(f"smollm2-135m-{domain}") >= 9


def test_a_dry_run_names_every_candidate_and_agrees_with_the_call(api: httpx2.Client) -> None:
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": PROMPTS["math"][0]}],
        "max_tokens": 1,
    }
    decision = api.post("/route", json=body).json()
    answer = api.post("/chat/completions", json=body)
    assert decision["chosen"] == answer.headers["x-routing-model"] == answer.json()["model"]
    assert len(decision["candidates"]) == 5
    for candidate in decision["candidates"]:
        low, high = candidate["quality_interval"]
        assert 0 <= low <= candidate["predicted_quality"] <= high <= 1
        assert candidate["predicted_cost_usd"] == 0
        assert candidate["feasible"] is True
        assert candidate["violated"] == []
    best = max(decision["candidates"], key=lambda c: c["predicted_quality"])
    assert best["model"] == decision["chosen"]
    assert answer.headers["x-routing-policy-version"] == decision["policy_version"]


def test_constraints_bind_or_say_why_they_cannot(api: httpx2.Client) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    allowed = api.post(
        "/chat/completions", json={**body, "routing": {"models": {"allow": ["smollm2-135m-code"]}}}
    )
    assert allowed.headers["x-routing-model"] == "smollm2-135m-code"
    impossible = api.post("/chat/completions", json={**body, "routing": {"min_quality": 0.999}})
    assert impossible.status_code == 422
    error = impossible.json()["error"]
    assert (error["code"], error["constraint"]) == ("routing_infeasible", "min_quality")
    retried = api.post(
        "/chat/completions",
        json={**body, "routing": {"min_quality": error["nearest_feasible"]}},
    )
    assert retried.status_code == 200
    some = api.post(
        "/route", json={**body, "routing": {"models": {"deny": ["smollm2-135m-math"]}}}
    ).json()
    (denied,) = [c for c in some["candidates"] if not c["feasible"]]
    assert (denied["model"], denied["violated"]) == ("smollm2-135m-math", ["models.deny"])
    unknown = api.post("/chat/completions", json={**body, "routing": {"min_qualty": 0.5}})
    assert unknown.status_code == 400
    assert unknown.json()["error"]["param"] == "routing.min_qualty"


def test_models_lists_virtual_and_concrete_ones(api: httpx2.Client) -> None:
    names = [entry["id"] for entry in api.get("/models").json()["data"]]
    assert names[0] == "auto"
    assert {"auto:best", "auto:cheap", "auto:fast", "auto:small", "smollm2-135m-math"} <= set(names)
