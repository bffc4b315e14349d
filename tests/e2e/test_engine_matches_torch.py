"""What the engine serves is what torch trained: same next-token log-probabilities, adapter by adapter.

The recorded values come from ``python -m router_models.experts golden``, in float32 from the
dequantised weights. The engine computes with 8-bit activations, which moves the base model, where no
adapter is involved, by 0.08 nats on average and 0.26 at most; adapters must not add to that.
"""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

RECORDED = json.loads((Path(__file__).parent / "torch_logprobs.json").read_text())
MODELS = sorted({case["model"] for case in RECORDED})
MEAN_NATS = 0.12
WORST_NATS = 0.5


def engine_logprobs(api: httpx2.Client, model: str, prompt: str) -> dict[int, float]:
    answer = api.post(
        "/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 40,
        },
    ).json()
    first = answer["choices"][0]["logprobs"]["content"][0]
    return {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}


def differences(api: httpx2.Client, case: dict[str, Any]) -> list[float]:
    served = engine_logprobs(api, case["model"], case["prompt"])
    recorded = zip(case["token_ids"], case["logprobs"], strict=True)
    return [abs(served[token] - logprob) for token, logprob in recorded]


@pytest.mark.parametrize("at_once", [1, 4], ids=["in turn", "at once"])
def test_every_model_agrees_with_torch_whoever_was_asked_before(
    api: httpx2.Client, at_once: int
) -> None:
    # By prompt, not by model: each prompt goes through all adapters, so that state left by one
    # expert would show in another one's answer.
    cases = sorted(RECORDED, key=lambda c: c["prompt"])
    by_model: dict[str, list[float]] = defaultdict(list)
    with ThreadPoolExecutor(at_once) as pool:
        for case, nats in zip(cases, pool.map(partial(differences, api), cases), strict=True):
            by_model[case["model"]] += nats
    assert sorted(by_model) == MODELS
    for model, nats in by_model.items():
        assert sum(nats) / len(nats) < MEAN_NATS, model
        assert max(nats) < WORST_NATS, model


@pytest.mark.parametrize("model", [m for m in MODELS if m.count("-") == 2])
def test_an_adapter_changes_what_the_base_model_says(api: httpx2.Client, model: str) -> None:
    base = "smollm2-135m"
    prompts = [case["prompt"] for case in RECORDED if case["model"] == model]
    changes = []
    for prompt in prompts:
        adapted, plain = engine_logprobs(api, model, prompt), engine_logprobs(api, base, prompt)
        changes += [abs(adapted[t] - plain[t]) for t in adapted.keys() & plain.keys()]
    assert sum(changes) / len(changes) > 2 * MEAN_NATS
