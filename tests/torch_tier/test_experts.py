"""The expert library against torch itself: conversion, recorded values, measured losses, training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import gateway.embedded
import router_models
from router_models.experts.library import BASE_MODEL, read_library

if TYPE_CHECKING:
    from router_models.experts.base_model import BaseModel
    from router_models.experts.gguf_adapter import Adapter

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ADAPTERS = Path(gateway.embedded.__file__).parent / "adapters"
OUTCOMES = Path(router_models.__file__).parent / "datasets" / "expert_library.parquet"
RECORDED = json.loads((Path(__file__).parents[1] / "e2e" / "torch_logprobs.json").read_text())


@pytest.fixture(scope="module")
def base() -> BaseModel:
    from router_models.experts.base_model import load_base

    return load_base()


def adapter_of(base: BaseModel, model: str) -> Adapter | None:
    from router_models.experts.gguf_adapter import read_adapter

    if model == BASE_MODEL:
        return None
    (expert,) = [e for e in read_library(ADAPTERS) if e.model == model]
    return read_adapter(ADAPTERS / expert.file, heads=base.model.config.num_attention_heads)


def test_rotary_rows_go_to_llama_cpp_and_back() -> None:
    from router_models.experts.gguf_adapter import from_llama_cpp_rows, to_llama_cpp_rows

    rows = np.arange(2 * 6 * 3, dtype=np.float32).reshape(12, 3)
    moved = to_llama_cpp_rows(rows, heads=2)
    # Head 0 has rows 0..5; its halves (0 1 2) and (3 4 5) interleave.
    assert moved[:6, 0].tolist() == rows[[0, 3, 1, 4, 2, 5], 0].tolist()
    assert np.array_equal(from_llama_cpp_rows(moved, heads=2), rows)


def test_a_written_adapter_reads_back(tmp_path: Path, base: BaseModel) -> None:
    from router_models.experts.gguf_adapter import read_adapter, write_adapter

    adapter = adapter_of(base, "smollm2-135m-math")
    assert adapter is not None
    path = tmp_path / "math.gguf"
    write_adapter(path, adapter, heads=9, name="math")
    again = read_adapter(path, heads=9)
    assert again.alpha == adapter.alpha
    assert again.rank == 8
    for key, pair in adapter.pairs.items():
        assert np.array_equal(again.pairs[key].a, pair.a)
        assert np.array_equal(again.pairs[key].b, pair.b)


@pytest.mark.parametrize("model", sorted({case["model"] for case in RECORDED}))
def test_recorded_logprobs_are_torchs(base: BaseModel, model: str) -> None:
    import torch

    from router_models.experts.measure import applied

    cases = [case for case in RECORDED if case["model"] == model][:2]
    with applied(base, adapter_of(base, model)), torch.inference_mode():
        for case in cases:
            encoded = base.encode(case["prompt"], "")
            logits = base.model(torch.tensor([encoded.token_ids[: encoded.start]])).logits[0, -1]
            logprobs = torch.log_softmax(logits, -1)[case["token_ids"]]
            assert np.allclose(logprobs.numpy(), case["logprobs"], atol=2e-3)


@pytest.mark.parametrize("model", [BASE_MODEL, "smollm2-135m-code"])
def test_measured_losses_can_be_measured_again(base: BaseModel, model: str) -> None:
    from router_models.experts.measure import reference_losses

    rows = [r for r in pq.read_table(OUTCOMES).to_pylist() if r["model"] == model][:4]
    references = _references(rows)
    encoded = [base.encode(r["prompt"], ref) for r, ref in zip(rows, references, strict=True)]
    losses = reference_losses(base, adapter_of(base, model), encoded)
    # Measured in bfloat16, whose rounding depends on the batch.
    assert np.allclose(losses, [r["loss"] for r in rows], atol=0.03)
    assert [e.start for e in encoded] == [r["prompt_tokens"] for r in rows]


def test_training_lowers_the_loss_and_leaves_the_base_model_alone(base: BaseModel) -> None:
    import torch

    from router_models.experts.domains import Example
    from router_models.experts.measure import reference_losses
    from router_models.experts.train import Recipe, train_expert

    before = base.model.model.layers[0].self_attn.q_proj.weight.detach().clone()
    examples = [
        Example(str(i), "toy", f"Say the word for {i}.", f"The word for {i} is zorp.", "experts")
        for i in range(4)
    ]
    recipe = replace(Recipe(), steps=6, batch=4, warmup_steps=1)
    encoded = [base.encode(e.prompt, e.reference) for e in examples]
    untrained = np.mean(reference_losses(base, None, encoded))
    adapter = train_expert(base, examples, recipe, lambda step, loss: None)
    trained = np.mean(reference_losses(base, adapter, encoded))
    assert trained < untrained - 0.3
    assert torch.equal(base.model.model.layers[0].self_attn.q_proj.weight, before)


def _references(rows: list[dict[str, Any]]) -> list[str]:
    """Reference answers are part of the domains data, not of the routing data made from it."""
    domains = {}
    path = Path(__file__).parents[1] / "data" / "domain_examples.parquet"
    for row in pq.read_table(path).to_pylist():
        domains[row["prompt_id"]] = row["reference"]
    return [domains[row["prompt_id"]] for row in rows]
