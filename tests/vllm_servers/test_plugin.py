"""The plugin inside real vLLM: the same tokens as vLLM's own experts, and counters that add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# The baselines are plain numpy; the rest of their package is not installed here.
sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "placement"))
from expert_placement import baselines

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]
GENERATE = Path(__file__).with_name("generate.py")
LAYERS, TOP_K, EXPERTS = 4, 2, 8


class Vllm:
    """Runs ``generate.py`` away from the repository: a folder of the plugin's name would shadow it."""

    def __init__(self, python: Path, models: Path, cwd: Path) -> None:
        self._python, self._models, self._cwd = python, models, cwd

    def __call__(
        self, dtype: str = "float32", tokens: int = 24, *flags: str, **settings: str
    ) -> dict[str, Any]:
        done = self.run(dtype, tokens, *flags, **settings)
        return json.loads(done.stdout.splitlines()[-1])

    def run(
        self, dtype: str, tokens: int, *flags: str, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self._python, GENERATE, self._models / "moe", dtype, str(tokens), *flags],
            env={**os.environ, "OMP_NUM_THREADS": "1", **settings},
            cwd=self._cwd,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done


@pytest.fixture(scope="module")
def vllm(vllm_python: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Vllm:
    return Vllm(vllm_python, models, tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="module")
def stock(vllm: Vllm) -> dict[str, Any]:
    return vllm(THALAMUS_EXPERTS="0")


def same(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> bool:
    pairs = zip(found["logprobs"], expected["logprobs"], strict=True)
    close = all(
        abs(a - b) <= tolerance for one, other in pairs for a, b in zip(one, other, strict=False)
    )
    return close and found["tokens"] == expected["tokens"]


@pytest.mark.parametrize("flags", [(), ("--compile",)], ids=["eager", "compiled"])
def test_greedy_tokens_equal_stock(
    vllm: Vllm, stock: dict[str, Any], flags: tuple[str, ...]
) -> None:
    found = vllm("float32", 24, *flags)
    assert same(found, stock, 1e-4)


def test_counters_equal_layers_times_steps(vllm: Vllm, stock: dict[str, Any]) -> None:
    found = vllm()
    rows = found["counters"]
    steps = 24
    decoded = len(found["tokens"]) * (steps - 1)
    assert stock["counters"] == []
    assert len(rows) == LAYERS
    for calls, tokens, slots, distinct, *load in rows:
        assert calls == steps
        assert tokens == found["prompt_tokens"] + decoded
        assert slots == tokens * TOP_K == sum(load)
        assert calls * TOP_K <= distinct <= calls * EXPERTS
        assert len(load) == EXPERTS


def test_the_triton_source_itself_gives_stocks_tokens(vllm: Vllm) -> None:
    expected = vllm("float32", 6, THALAMUS_EXPERTS="0")
    found = vllm("float32", 6, THALAMUS_EXPERTS_KERNEL="triton", TRITON_INTERPRET="1")
    assert same(found, expected, 1e-4)
    assert [row[0] for row in found["counters"]] == [6] * LAYERS


def test_top_p_drops_slots_and_the_counters_say_so(vllm: Vllm) -> None:
    found = vllm(THALAMUS_EXPERTS_TOP_P="0.6")
    for _, _, slots, _, *load in found["counters"]:
        assert 0.5 <= sum(load) / slots < 1


def test_reuse_needs_fewer_distinct_experts(vllm: Vllm) -> None:
    plain, reused = vllm(), vllm(THALAMUS_EXPERTS_REUSE="1")
    assert sum(row[3] for row in reused["counters"]) < sum(row[3] for row in plain["counters"])


REFUSALS = """
import json, types
from thalamus_vllm.method import refusal
biased = types.SimpleNamespace(has_bias=True)
print(json.dumps([refusal(biased, "TRITON"), refusal(biased, "FLASHINFER_CUTLASS")]))
"""
OTHER_RELEASE = """
import vllm, logging
vllm.__version__ = "0.40.0"
import thalamus_vllm
thalamus_vllm.register()
thalamus_vllm.register()
from vllm.model_executor.custom_op import op_registry_oot
print(sorted(op_registry_oot))
"""


def test_what_it_cannot_do_stays_with_vllm(vllm_python: Path, tmp_path: Path) -> None:
    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [vllm_python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )

    biased, rearranged = json.loads(run(REFUSALS).stdout.splitlines()[-1])
    assert "biases" in biased
    assert "FLASHINFER_CUTLASS back end rearranges the weights" in rearranged
    other = run(OTHER_RELEASE)
    assert other.stdout.splitlines()[-1] == "[]"
    assert (other.stdout + other.stderr).count("not 0.40.0: vLLM's own experts stay") == 1


POLICY = """
import json, sys, numpy, torch
from thalamus_vllm import placement
from vllm.distributed.eplb.policy import EPLB_POLICIES
stock = EPLB_POLICIES["default"]
placement.register()
policy = EPLB_POLICIES["default"]
load = torch.tensor(json.loads(sys.argv[1]))
served = policy.rebalance_experts(load, 8, 1, 1, 2)
other = policy.rebalance_experts(load, 8, 1, 1, 4)
packed = stock.rebalance_experts(load, 8, 1, 1, 2)
stock_other = stock.rebalance_experts(load, 8, 1, 1, 4)
print(json.dumps([t.tolist() for t in (served, other, stock_other, packed)]))
"""


def test_a_placement_is_served_from_its_file_and_only_where_it_fits(
    vllm_python: Path, tmp_path: Path
) -> None:
    placed = [[7, 6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 1, 3, 5, 7]]
    file = tmp_path / "placement.json"
    file.write_text(json.dumps({"gpus": 2, "physical_to_logical": placed}))
    load = [[9, 1, 7, 3, 8, 2, 6, 4], [1, 1, 1, 1, 5, 5, 5, 5]]
    done = subprocess.run(
        [vllm_python, "-c", POLICY, json.dumps(load)],
        cwd=tmp_path,
        env={**os.environ, "THALAMUS_EXPERTS_PLACEMENT": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    served, elsewhere, stock_elsewhere, packed = json.loads(done.stdout.splitlines()[-1])
    assert served == placed
    assert elsewhere == stock_elsewhere
    # The simulator's packing is the same policy: the same loads on the two GPUs.
    gpu_of = baselines.packed(np.array(load), 2)
    for row, ours, experts in zip(load, gpu_of, packed, strict=True):
        theirs = sorted(sum(row[e] for e in half) for half in (experts[:4], experts[4:]))
        assert sorted(np.bincount(ours, weights=row).tolist()) == theirs


def test_a_recorded_trace_holds_every_choice(vllm: Vllm, tmp_path: Path) -> None:
    found = vllm(THALAMUS_EXPERTS_TRACE=str(tmp_path / "trace.npz"))
    with np.load(tmp_path / "trace.npz") as trace:
        ids, experts = trace["ids"], int(trace["experts"])
    assert experts == EXPERTS
    assert ids.shape[1:] == (LAYERS, TOP_K)
    # The trace also has the steps that vLLM takes to warm up.
    assert len(ids) >= found["counters"][0][1]
    assert ids.min() >= 0
    assert ids.max() < EXPERTS
